def f(x):
    def g(): return x
    g.__name__ = '9'
    return g
