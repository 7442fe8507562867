def sum(a, b): return a + b
def print(*a): raise ValueError
def f(x): return sum(x * x, 0)
