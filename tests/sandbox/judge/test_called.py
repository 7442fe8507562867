import pytest

from sandbox.judge.called import called_names


@pytest.mark.parametrize(
    ("asserts", "imports", "names"),
    [
        (["assert f(1) == 2"], [], ("f",)),
        (["assert sorted(f(1)) == len([2])"], [], ("f",)),
        (["assert isclose(f(1), g(h(2)))"], ["from math import isclose"], ("f", "g", "h")),
        (["assert near(f(1), 2)"], ["from m import isclose as near"], ("f",)),
        (["assert math.floor(f(1)) == 1"], ["import math"], ("f",)),
        (["assert all(k(1) for k in [f, g])"], [], ()),
        (["assert (lambda q: q(1))(f(2)) == 1"], [], ("f",)),
        (["assert f(1) == 2", "assert g(1) == f(2)"], [], ("f", "g")),
        (["assert Counter(f('a')) == {}"], ["from collections import *"], ("Counter", "f")),
        (["  assert a.b(1)  "], [], ()),
        ([], [], ()),
    ],
)
def test_the_names_that_a_candidate_must_define(asserts, imports, names):
    assert sorted(called_names(asserts, imports)) == sorted(names)


@pytest.mark.parametrize("text", ["assert f(", "\0", "\ud800", "assert " + "-" * 100_000 + "1"])
def test_what_cannot_be_parsed_is_one_kind_of_error(text):
    with pytest.raises(SyntaxError):
        called_names([text])
