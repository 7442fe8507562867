import collections
def f(x):
    return {3: bytearray(30_000), 4: collections.deque([0] * 30_000), 5: 7, 6: "%0900000000d", 7: 1}[x]
def g(x):
    return 10**11
