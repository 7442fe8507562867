class D:
    def __del__(self):
        while True: pass
keep = D()
def f(x): return x * x
