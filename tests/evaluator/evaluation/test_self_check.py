from dataclasses import replace

import pytest

from evaluator.evaluation.self_check import HarnessError, check_harness
from evaluator.problems.mbpp import load_problems
from sandbox.program import AssertResult, Execution, Verdict

PROBLEMS = load_problems("embedded/test", limit=4)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Always:
    """A broken sandbox that gives one verdict whatever runs."""

    name = "always"

    def __init__(self, verdict):
        self.verdict = verdict

    def run(self, programs):
        return [
            Execution(tuple(AssertResult(a, self.verdict) for a in p.asserts), 0.0, 0.0, 0)
            for p in programs
        ]


def test_references_pass_and_empty_answers_fail(sandbox):
    check_harness(PROBLEMS, sandbox, timeout_s=5.0)
    assert len(sandbox.programs) == 8


def test_a_passed_check_is_remembered(sandbox):
    for _ in range(3):
        check_harness(PROBLEMS, sandbox, timeout_s=5.0)
    assert len(sandbox.programs) == 8
    check_harness(PROBLEMS, sandbox, timeout_s=6.0)
    check_harness(PROBLEMS, sandbox, timeout_s=5.0, cache=False)
    assert len(sandbox.programs) == 24


def test_a_failing_reference_stops_everything():
    with pytest.raises(HarnessError, match=r"got 4 of 4 failing: task 25 \(timeout\)"):
        check_harness(PROBLEMS, Always(Verdict.TIMEOUT), timeout_s=5.0)


def test_a_passing_empty_answer_stops_everything():
    with pytest.raises(HarnessError, match="an empty answer must pass no problem, got 4 passed"):
        check_harness(PROBLEMS, Always(Verdict.PASSED), timeout_s=5.0)


def test_a_failed_check_is_not_remembered(sandbox, cache):
    broken = replace(PROBLEMS.problems[0], reference="def long_words(a, b): return 0")
    with pytest.raises(HarnessError):
        check_harness(replace(PROBLEMS, problems=(broken,)), sandbox, timeout_s=5.0)
    assert not list(cache.rglob("*"))


def test_an_unwritable_cache_does_not_matter(sandbox, cache):
    cache.write_text("a file where the folder would be")
    check_harness(PROBLEMS, sandbox, timeout_s=5.0)
