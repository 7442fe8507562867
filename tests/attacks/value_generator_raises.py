def f(x):
    yield 1
    raise SystemExit(0)
