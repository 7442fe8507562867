"""Runs untrusted programs behind a wall; knows no problem set, model or reward.

Three zones: the host (these modules, trusted), the supervisor (`guest/__main__.py`, `guest/slot.py`: ours, but inside
the wall) and the child (`guest/child.py`: hostile from the moment it runs a program).

Covered: a program cannot pass without the value that the assert asks for; cannot read, write, signal or
outlive anything but itself; cannot use more time, memory, processes or output than it may; cannot keep
another program from its verdict. A failure of ours is a `SandboxError` or a second try, never a verdict.

Not covered: a flaw in the kernel, in Python or in the engine that the filter leaves within reach; what timing and
the load of the machine tell; hard-coding of asserts that the program's author was shown. The process
backend has no container around it and is for tests and development. docs/sandbox.md names the test of each
sentence.

Who may talk to the Docker engine is root on the host. That is the person who runs `sandbox build` and
`sandbox up` or lets a client start containers of its own; no container holds docker.sock.
"""
