import threading, time
# As many threads as it may have, all asleep, then a wait for ever.
for _ in range(64):
    try: threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    except RuntimeError: break
def f(x): threading.Event().wait()
