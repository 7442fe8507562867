"""A test marked `alone` has the machine to itself, although other processes run tests beside this one."""

import contextlib
import fcntl


@contextlib.contextmanager
def room(folder, *, alone):
    """Wait until no test of the run's processes is in the room, or without `alone` until none is there alone.

    Whoever waits stands in the queue, so that nobody overtakes it. The kernel frees what a killed process held.
    """
    with (folder / "queue").open("a") as queue, (folder / "room").open("a") as inside:
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        try:
            yield
        finally:
            # closing would not do: a process that the test forked may still have it open
            fcntl.flock(inside, fcntl.LOCK_UN)
