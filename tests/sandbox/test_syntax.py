"""Parsing in several threads at once, with finalizers that let another thread take over in the middle of a tree."""

import ast
import gc
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.pool.asides import modules
from sandbox.syntax import parse

SOURCE = "x = " + "(" * 40 + "1" + ",)" * 40 + "\n" + "\n".join(f"y{i} = [{i}]" for i in range(60))


class Switches:
    """Dies by the garbage collector, and then lets other threads run."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        time.sleep(1e-5)


def times_broken(parse, n_times=50):
    def work(_):
        broken = 0
        for _ in range(n_times):
            for _ in range(3):
                Switches()
            try:
                parse(SOURCE)
            except SystemError:
                broken += 1
        return broken

    before = gc.get_threshold()
    gc.set_threshold(20, 1, 1)
    try:
        with ThreadPoolExecutor(4) as threads:
            return sum(threads.map(work, range(4)))
    finally:
        gc.set_threshold(*before)


def test_threads_that_parse_side_by_side_all_get_their_trees():
    assert times_broken(parse) == 0
    assert times_broken(modules) == 0


def test_what_cannot_be_parsed_is_said_as_ast_says_it():
    for source in ("def", "\0", "(" * 1000):
        with pytest.raises((SyntaxError, ValueError, MemoryError)) as plain:
            ast.parse(source)
        with pytest.raises(plain.type):
            parse(source)
