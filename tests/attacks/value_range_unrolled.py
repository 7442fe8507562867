def f(x):
    return range(7, 10**14, 3)
