def f(x):
    raise (KeyboardInterrupt if x == 3 else GeneratorExit)
