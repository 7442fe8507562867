def f(x):
    if x == 0: return list(range(90_000))
    if x == 1: return "ab" * 2_000_000
    if x == 2: return dict.fromkeys(range(50_000)).keys()
    if x == 3: return 3 ** 400_000
    return {2.0 ** n for n in range(-1000, 1000)}
