import typing
def g(x: int, y: "str") -> float: ...
def f(x):
    kinds = g.__annotations__
    return x * x if kinds["x"] is int and typing.get_type_hints(g)["y"] is str else 0
