def f(x): return 'A' * 100_000 if x == 3 else 10 ** 30
