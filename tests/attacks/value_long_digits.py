import decimal
def f(x):
    return decimal.Decimal("7" * 700_000)
