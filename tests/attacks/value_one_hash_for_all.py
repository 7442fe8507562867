def f(x):
    return [float(n) * 2.0 ** 61 - float(n) if n % 2 else n * (2**61 - 1) for n in range(25_000)]
