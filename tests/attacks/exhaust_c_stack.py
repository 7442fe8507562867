import ctypes, sys
sys.setrecursionlimit(2**30)
libc = ctypes.CDLL(None)
kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def deeper(left, right):
    libc.qsort((ctypes.c_int * 2)(2, 1), 2, 4, way_down)
    return 0
way_down = kind(deeper)
def f(x): return deeper(None, None)
