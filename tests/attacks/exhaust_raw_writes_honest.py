import os, sys
def f(x):
    for _ in range(200):
        os.write(1, b'A' * 65536); os.write(2, b'B' * 65536)
    print('C' * 3_000_000)
    sys.stdout.buffer.write(b'\xff' * 100_000)
    return x * x
