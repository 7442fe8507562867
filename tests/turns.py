"""Whose turn it is: where SDPO_BENCH_SCALE is below 1, a run takes that share of a long test's variants.

SDPO_BENCH_TURN, a number, says which: each number has the variants after those of the number before, so that all come
round. Of the tests that are marked `long`, each number has a fifth. `.ci/run` counts the commits. At a scale of 1,
which is the default, everything runs.
"""

import math
import os
from itertools import groupby

TAKES_TURNS = ("slow", "unsloth")
"""Markers of the tests whose variants take turns."""
LONG_IN = 5
"""Turns in which all long tests have run."""
NEED_EACH_OTHER = "tests/test_docs_run.py::test_a_command_of_the_docs"
"""These lines run in the docs' order, each on what those before it made."""


def in_turn(values, every=1):
    """That share of `values` whose turn it is, at least one of them, in their order; the next in `every` turns."""
    values = list(values)
    n = math.ceil(len(values) * min(1.0, float(os.environ.get("SDPO_BENCH_SCALE", "1"))))
    first = int(os.environ.get("SDPO_BENCH_TURN", "0")) // every * n
    chosen = {(first + i) % len(values) for i in range(n)}
    return [value for i, value in enumerate(values) if i in chosen]


def pytest_collection_modifyitems(config, items):
    """Leave the variants of other turns out, visibly: pytest counts them as deselected."""
    waiting = of_other_turns(items)
    items[:] = [item for item in items if item not in waiting]
    config.hook.pytest_deselected(items=list(waiting))


def of_other_turns(items):
    """The variants and the long tests among pytest's items that wait for another turn."""
    taking = [
        item
        for item in items
        if hasattr(item, "callspec")
        and any(item.get_closest_marker(name) for name in TAKES_TURNS)
        and not item.nodeid.startswith(NEED_EACH_OTHER)
    ]
    waiting = _long_ones(items)
    for _, variants in groupby(sorted(taking, key=_test), key=_test):
        group = list(variants)
        every = LONG_IN if group[0].get_closest_marker("long") else 1
        waiting |= set(group) - set(in_turn(group, every))
    return waiting


def _long_ones(items):
    """The long tests of other turns, with all of their variants."""
    if float(os.environ.get("SDPO_BENCH_SCALE", "1")) >= 1:
        return set()
    long = [item for item in items if item.get_closest_marker("long")]
    turn = int(os.environ.get("SDPO_BENCH_TURN", "0")) % LONG_IN
    ours = set(sorted({_test(item) for item in long})[turn::LONG_IN])
    return {item for item in long if _test(item) not in ours}


def _test(item):
    """A test without its variant."""
    return item.nodeid.partition("[")[0]
