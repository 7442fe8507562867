class D:
    def __del__(self):
        while True: pass
def f(x):
    D()
    return x * x
