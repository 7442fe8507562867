import threading, zlib
# Threads that compute without the interpreter's lock: their time is the program's, too.
block = bytes(1 << 20)
def burn():
    while True: zlib.adler32(block)
for _ in range(12):
    try: threading.Thread(target=burn, daemon=True).start()
    except RuntimeError: break
def f(x):
    burn()
