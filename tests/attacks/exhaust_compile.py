def f(x):
    try:
        compile('(' * 90_000, 'x', 'eval')
    except (SyntaxError, MemoryError, RecursionError):
        pass
    return eval('-' * 50_000 + '9')
