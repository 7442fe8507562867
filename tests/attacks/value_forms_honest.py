import collections
Point = collections.namedtuple("Point", "x y")
def f(x):
    return {0: (n for n in (2, 3, 5)), 1: {"a": 1}.values(), 2: 2.5, 3: Point(1, 2), 4: iter("abc"), 5: [3, 1, 2]}.get(x, x * x)
