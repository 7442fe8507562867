"""Threads that ask the sandbox: waited for at the end, not after Ctrl-C."""

import threading
import time

import pytest

from evaluator.engines.threads import side_by_side


def test_the_end_of_the_block_waits_for_the_threads():
    done = []
    with side_by_side(2) as threads:
        threads.submit(lambda: (time.sleep(0.1), done.append(1)))
    assert done == [1]


def test_ctrl_c_waits_for_none_and_what_has_not_begun_never_begins():
    release, begun = threading.Event(), []

    def work(number):
        begun.append(number)
        release.wait(10)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), side_by_side(1) as threads:
        for number in range(3):
            threads.submit(work, number)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 5
    release.set()
    time.sleep(0.1)
    assert begun == [0]


def test_a_reader_that_wants_no_more_is_not_held_up():
    release = threading.Event()

    def answers():
        with side_by_side(1) as threads:
            yield from threads.map(lambda n: n or release.wait(10), [1, 0])

    reading = answers()
    assert next(reading) == 1
    started = time.monotonic()
    reading.close()
    assert time.monotonic() - started < 5
    release.set()
