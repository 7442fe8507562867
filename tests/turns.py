"""Whose turn it is: where SDPO_BENCH_SCALE is below 1, a run takes that share of a long test's variants.

SDPO_BENCH_TURN, a number, says which: each number has the variants after those of the number before, so that all come
round. `.ci/run` counts the commits. At a scale of 1, which is the default, every variant runs.
"""

import math
import os
from itertools import groupby

TAKES_TURNS = ("slow", "unsloth")
"""Markers of the tests whose variants take turns."""
NEED_EACH_OTHER = "tests/test_docs_run.py"
"""Its lines run in the docs' order, each on what those before it made."""


def in_turn(values):
    """That share of `values` whose turn it is, at least one of them, in their order."""
    values = list(values)
    n = math.ceil(len(values) * min(1.0, float(os.environ.get("SDPO_BENCH_SCALE", "1"))))
    first = int(os.environ.get("SDPO_BENCH_TURN", "0")) * n
    chosen = {(first + i) % len(values) for i in range(n)}
    return [value for i, value in enumerate(values) if i in chosen]


def pytest_collection_modifyitems(config, items):
    """Leave the variants of other turns out, visibly: pytest counts them as deselected."""
    waiting = of_other_turns(items)
    items[:] = [item for item in items if item not in waiting]
    config.hook.pytest_deselected(items=list(waiting))


def of_other_turns(items):
    """The variants among pytest's items that wait for another turn."""

    def test(item):
        return item.nodeid.partition("[")[0]

    taking = [
        item
        for item in items
        if hasattr(item, "callspec")
        and any(item.get_closest_marker(name) for name in TAKES_TURNS)
        and not item.nodeid.startswith(NEED_EACH_OTHER)
    ]
    groups = (list(group) for _, group in groupby(sorted(taking, key=test), key=test))
    return {item for group in groups for item in set(group) - set(in_turn(group))}
