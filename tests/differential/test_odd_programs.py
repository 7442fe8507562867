"""Odd but honest programs, written by hand: the judge says of them what plain Python says, or that it says nothing.

odd_programs.txt holds programs, each followed by its asserts; `#?` names what they call, `#!` what they import.
"""

import re
from pathlib import Path

import pytest

from sandbox.client import open_sandbox
from sandbox.program import Program, Verdict
from tests.differential.test_differential import compare

TEXTS = Path(__file__).with_name("odd_programs.txt").read_text().split("\n====\n")


def program(text):
    code, asserts = text.split("\n----\n")
    called = re.search(r"^#\? (.*)", code, re.MULTILINE)
    imports = tuple(re.findall(r"^#! (.*)", code, re.MULTILINE))
    names = tuple(called[1].split()) if called else ("f",)
    return Program(code, tuple(asserts.splitlines()), names, imports=imports, timeout_s=60.0)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize(
    ("backend", "every"),
    [
        ("process", 1),
        pytest.param("docker", 5, marks=pytest.mark.docker),
        pytest.param("docker", 1, marks=[pytest.mark.docker, pytest.mark.slow]),
    ],
)
def test_odd_programs_are_judged_as_plain_python_does(backend, every):
    silent, n_passed, _ = compare([program(text) for text in TEXTS[::every]], backend)
    assert silent == []
    assert n_passed > 700 / every / 2


OWN = """
class A:
    def __init__(self, n): self.n = n
    def __eq__(self, other): return self.n == other.n
    def __hash__(self): return hash(self.n)
    def __contains__(self, item): return item == 7
    def __iter__(self): return iter([1, 2])
same = object()
def f(n): return A(n)
def many(n): return [A(n), A(n)]
def one(n): return same
def keyed(n): return {A(1): 1, (A(2), 3): 2}
class B(A):
    def __bool__(self): raise ValueError(self.n)
    def get(self): return self.n
def untrue(n): return [B(n)] if n else B(n)
def some(n): yield from (n, n)
"""
CALLED = ("f", "many", "one", "keyed", "untrue", "some")


@pytest.mark.parametrize(
    ("assertion", "passes"),
    [
        ("len({f(1), f(1)}) == 1", None), ("{f(1): 2}[f(1)] == 2", None), ("len(set(many(1))) == 1", None),
        ("len({one(1), one(2)}) == 1", None), ("7 in f(1)", None), ("3 not in f(1)", None),
        ("not untrue(0)", None), ("[b.get() for b in untrue(1)] == [1]", None),
        ("(lambda it: next(it) + next(it))(some(1)) == 2", None), ("next(some(1)) == 1", True),
        ("list(f(1)) == [1, 2]", True), ("len(keyed(1)) == 2", True), ("sum(keyed(1).values()) == 3", True),
        ("len(list(keyed(1))) == 2", True), ("len(set(keyed(1))) == 2", True),
    ],
)  # fmt: skip
def test_what_an_object_equals_is_asked_of_no_copy_of_it(assertion, passes, pool):
    (execution,) = pool.run([Program(OWN, (f"assert {assertion}",), CALLED)])
    (result,) = execution.results
    if passes:
        assert (result.verdict, result.trusted) == (Verdict.PASSED, True)
    else:
        assert result.verdict is Verdict.UNJUDGED


@pytest.fixture(scope="module")
def pool():
    with open_sandbox("process", own=True) as sandbox:
        yield sandbox
