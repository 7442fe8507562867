class S(str): pass
def f(x): return S('nine')
