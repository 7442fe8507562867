import threading, time
def f(x):
    n = 0
    try:
        for _ in range(100_000):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            n += 1
    except RuntimeError:
        pass
    return n
