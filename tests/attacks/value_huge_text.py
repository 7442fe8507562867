def f(x): return 'A' * 50_000_000
