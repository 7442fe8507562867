def f(x):
    prime = 2 ** 61 - 1
    return {i * prime for i in range(40_000)}
