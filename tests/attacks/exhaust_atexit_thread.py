import atexit, threading
def loop():
    while True: pass
atexit.register(loop)
threading.Thread(target=loop, daemon=True).start()
def f(x): return x * x
