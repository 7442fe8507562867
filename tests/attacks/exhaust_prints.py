def f(x):
    while True: print('A' * 10_000)
