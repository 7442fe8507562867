# Takes all the memory that it may have, gives it back, and answers.
def f(x):
    kept, size = [], 16 << 20
    while size > 1 << 16:
        try: kept.append(bytes(size) + b'.')
        except MemoryError: size //= 2
    del kept
    return x * x
