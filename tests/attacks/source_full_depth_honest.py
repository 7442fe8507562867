def down(n):
    return 0 if n == 0 else 1 + down(n - 1)
def f(x):
    return down(990) - 990 + x * x
