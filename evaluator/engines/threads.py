"""Threads for what waits: the sandbox's answers, a server's."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def side_by_side(n: int) -> Iterator[ThreadPoolExecutor]:
    """Within the block there are `n` threads; Ctrl-C, or a reader that wants no more, does not wait for them."""
    threads = ThreadPoolExecutor(n)
    wait = True
    try:
        yield threads
    except (KeyboardInterrupt, GeneratorExit):
        wait = False
        raise
    finally:
        threads.shutdown(wait=wait, cancel_futures=True)
