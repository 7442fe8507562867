n = int(input())
def f(x): return x * x
