def f(x): return '\ud800' + chr(0)
