import os
def f(x):
    try:
        while True: os.pipe()
    except OSError:
        pass
    return None
