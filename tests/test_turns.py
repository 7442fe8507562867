"""Variants of a long test take turns: none is left out for good, and none without being asked."""

from types import SimpleNamespace

import pytest

from tests.turns import LONG_IN, in_turn, of_other_turns


@pytest.fixture
def tenth(monkeypatch):
    monkeypatch.setenv("SDPO_BENCH_SCALE", "0.1")

    def turn(number):
        monkeypatch.setenv("SDPO_BENCH_TURN", str(number))

    return turn


def item(name, *markers):
    """What is read of a pytest item."""
    kept = SimpleNamespace(nodeid=name, get_closest_marker=lambda m: m if m in markers else None)
    if "[" in name:
        kept.callspec = None
    return Hashable(**vars(kept))


class Hashable(SimpleNamespace):
    __hash__ = object.__hash__


@pytest.mark.parametrize("n", [1, 2, 7, 10, 11, 193])
def test_every_variant_has_its_turn_and_each_turn_a_tenth_of_them(tenth, n):
    seen = []
    for number in range(100, 110):
        tenth(number)
        taken = in_turn(range(n))
        assert len(taken) == max(1, -(-n // 10)) and taken == sorted(set(taken))
        seen += taken
    assert set(seen) == set(range(n))


def test_at_full_scale_and_without_a_scale_everything_runs(monkeypatch):
    slow = [item(f"tests/a.py::test_x[{i}]", "slow") for i in range(9)]
    for scale in (None, "1", "2"):
        monkeypatch.delenv("SDPO_BENCH_SCALE", raising=False)
        if scale is not None:
            monkeypatch.setenv("SDPO_BENCH_SCALE", scale)
        assert in_turn("abc") == ["a", "b", "c"] and of_other_turns(slow) == set()


def test_only_the_variants_of_long_tests_wait_and_each_test_has_its_own_turn(tenth):
    tenth(4)
    slow = [item(f"tests/a.py::test_{x}[{i}]", "slow") for x in "xy" for i in range(3)]
    others = [
        item("tests/a.py::test_z", "slow"),
        *(item(f"tests/a.py::test_short[{i}]") for i in range(3)),
        *(
            item(f"tests/test_docs_run.py::test_a_command_of_the_docs_runs[{i}]", "slow")
            for i in range(3)
        ),
    ]
    waiting = of_other_turns([*slow, *others])
    assert {i.nodeid for i in set(slow) - waiting} == {f"tests/a.py::test_{x}[1]" for x in "xy"}
    assert waiting.isdisjoint(others)


def test_long_tests_run_in_one_of_a_few_turns_with_their_variant_of_that_turn(tenth):
    whole = [item(f"tests/a.py::test_{x}", "slow", "long") for x in "abcd"]
    variants = [item(f"tests/a.py::test_v[{i}]", "slow", "long") for i in range(20)]
    seen = []
    for number in range(300, 300 + LONG_IN):
        tenth(number)
        run = set(whole + variants) - of_other_turns([*whole, *variants])
        seen += sorted({i.nodeid.partition("[")[0] for i in run})
        assert len(run) <= 3 and len(run & set(variants)) in (0, 2)
    assert sorted(seen) == [f"tests/a.py::test_{x}" for x in "abcdv"]


@pytest.mark.parametrize("n", [2, 3, 6, 30])
def test_every_variant_of_a_long_test_has_its_turn(tenth, n):
    variants = [item(f"tests/a.py::test_v[{i}]", "slow", "long") for i in range(n)]
    seen = set()
    for number in range(60, 60 + 10 * LONG_IN):
        tenth(number)
        seen |= set(variants) - of_other_turns(variants)
    assert seen == set(variants)


def test_at_full_scale_every_long_test_runs(monkeypatch):
    monkeypatch.delenv("SDPO_BENCH_SCALE", raising=False)
    assert of_other_turns([item(f"tests/a.py::test_{x}", "slow", "long") for x in "abcd"]) == set()
