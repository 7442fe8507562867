"""What the zygote leaves in memory for its forks."""

import pytest

from sandbox.client import open_sandbox
from sandbox.program import Program, Verdict

COUNTS = """
import sys, json, re, collections
MANY = [sys, re.compile, re.compile.__code__, json.JSONEncoder, collections.Counter.update, sys.modules]
def f(n):
    return [sys.getrefcount(x) == sys.getrefcount(None) for x in MANY]
def own(n):
    made = [n]
    return sys.getrefcount(made) < 10
def version(n):
    return sys.version_info[:2] in ((3, 12), (3, 13))
"""


@pytest.mark.docker
def test_nobody_counts_references_to_what_was_there_before_the_forks():
    asserts = ("assert version(1)", "assert f(1) == [True] * 6", "assert own(1)")
    with open_sandbox("docker", own=True, n_workers=1) as pool:
        (done,) = pool.run([Program(COUNTS, asserts, ("f", "own", "version"))])
    if done.results[0].verdict is Verdict.FAILED:
        pytest.skip("the image's Python keeps references in another way")
    assert [result.verdict for result in done.results] == [Verdict.PASSED] * 3
