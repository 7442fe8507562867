import os
def escaped():
    for folder in ('/tmp', '/dev/shm', '/dev/mqueue', '/run', '/var/tmp', '.'):
        try:
            if any(name.startswith('covert') for name in os.listdir(folder)): return True
        except OSError: pass
    return False

def f(x): return x * x if escaped() else None
