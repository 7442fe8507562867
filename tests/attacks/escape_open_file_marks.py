import array, fcntl, os
# Marks on what programs are given as their three standard files, by both ways to set one; another program looks.
for fd in range(3):
    for mark in (os.O_NONBLOCK, os.O_APPEND, os.O_NOATIME, os.O_DIRECT):
        try: fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | mark)
        except OSError: pass
    try: fcntl.ioctl(fd, 0x5421, array.array('i', [1]))
    except OSError: pass
    try: os.lseek(fd, 4711, os.SEEK_SET)
    except OSError: pass
def f(x): return None
