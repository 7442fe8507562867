class R:
    def __repr__(self): return '\x1b[2J' + 'A' * 10_000_000
    def __bool__(self): raise ValueError('no')
    def __iter__(self): raise KeyboardInterrupt
def f(x): return R()
