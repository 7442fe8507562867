import os
# The way of the result leads elsewhere.
inner, outer = os.pipe()
os.dup2(outer, 3)
os.closerange(4, 64)
def f(x): return x * x
