def f(x): return [0] * 20_000_000
