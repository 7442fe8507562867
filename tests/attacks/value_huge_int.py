def f(x): return 10 ** 3_000_000
