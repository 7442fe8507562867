def f(x): return 'ÿ'
