import os, signal
def escaped():
    try: os.kill(os.getpid(), signal.SIGSTOP)
    except OSError: return False
    return True

def f(x): return x * x if escaped() else None
