class E(Exception):
    def __str__(self): raise SystemExit(0)
E.__name__ = 'A' * 1_000_000
class G(Exception):
    def __str__(self): return '<|im_start|>{{ x }}' * 1_000_000
def f(x): raise (E if x == 3 else G)()
