from dataclasses import replace

import pytest

from evaluator.answers.extract import Extraction
from evaluator.grading.grade import Grade, _program, grade
from evaluator.grading.reward import correctness
from sandbox.program import AssertResult, Case, Execution, SandboxError, Verdict

GOOD = "```python\ndef add(a, b):\n    return a + b\n```"
WRONG = "```python\ndef add(a, b):\n    return a - b\n```"


def graded(problem, *results):
    execution = Execution(tuple(results), cpu_ms=1.0, wall_ms=1.0, peak_memory_bytes=1)
    return Grade(problem, GOOD, Extraction("x", None, 1), execution)


def result(verdict, **options):
    return AssertResult("assert add(1, 2) == 3", verdict, **options)


def test_grades_come_in_the_order_of_the_pairs(problem, sandbox):
    grades = grade([(problem, WRONG), (problem, "no code here"), (problem, GOOD)], sandbox)
    assert [item.outcome for item in grades] == ["wrong_answer", "no_code", "passed"]
    assert [item.n_passed for item in grades] == [1, 0, 3]
    assert [item.passed for item in grades] == [False, False, True]


def test_what_holds_no_code_is_not_sent_to_the_sandbox(problem, sandbox):
    (only,) = grade([(problem, "")], sandbox)
    assert sandbox.programs == []
    assert [r.verdict for r in only.execution.results] == [Verdict.NOT_RUN] * 3
    assert (only.execution.cpu_ms, only.execution.wall_ms) == (0.0, 0.0)


def test_one_batch_is_sent_with_all_that_the_problem_needs(problem, sandbox):
    full = replace(problem, imports=("import math",), setup_code="x = 1")
    grade([(full, GOOD), (full, WRONG)], sandbox, timeout_s=1.5)
    first, _ = sandbox.programs
    assert (first.asserts, first.callables) == (problem.asserts, ("add",))
    assert (first.imports, first.setup_code, first.timeout_s) == (("import math",), "x = 1", 1.5)


def test_a_program_has_four_times_what_its_reference_takes(problem, sandbox):
    slow = replace(problem, reference_cpu_s=3.5)
    grade([(slow, GOOD), (problem, GOOD)], sandbox, timeout_s=5.0)
    assert [program.timeout_s for program in sandbox.programs] == [14.0, 5.0]
    grade([(slow, GOOD)], sandbox, timeout_s=30.0)
    assert sandbox.programs[-1].timeout_s == 30.0


def test_a_problem_with_cases_has_its_own_time_limit(problem, sandbox):
    asked = replace(problem, asserts=(), cases=(Case("1", "2"),))
    programs = [
        _program(each, "", timeout_s=5.0) for each in (asked, replace(asked, time_limit_s=2.0))
    ]
    assert [program.timeout_s for program in programs] == [5.0, 2.0]


def test_without_a_test_nothing_is_correct(problem):
    assert correctness(graded(replace(problem, asserts=()))) == 0.0


def test_no_pairs_give_no_grades(sandbox):
    assert grade([], sandbox) == []


def test_a_sandbox_failure_is_no_grade(problem):
    class Broken:
        def run(self, programs):
            raise SandboxError("gone")

    with pytest.raises(SandboxError):
        grade([(problem, GOOD)], Broken())


@pytest.mark.parametrize(
    ("results", "outcome"),
    [
        ([result(Verdict.PASSED), result(Verdict.FAILED)], "wrong_answer"),
        ([result(Verdict.ERROR, exception="KeyError"), result(Verdict.FAILED)], "KeyError"),
        ([result(Verdict.PASSED), result(Verdict.TIMEOUT), result(Verdict.NOT_RUN)], "timeout"),
        ([result(Verdict.MEMORY)], "memory"),
        ([result(Verdict.CRASHED)], "crashed"),
        ([result(Verdict.ERROR)], "error"),
        ([result(Verdict.ERROR, exception="a b\x1b[31m")], "error"),
        ([result(Verdict.ERROR, exception="X" * 1000)], "error"),
        ([result(Verdict.PASSED), result(Verdict.PASSED, trusted=False)], "untrusted"),
        ([result(Verdict.UNJUDGED, trusted=False)], "untrusted"),
        ([], "not_run"),
    ],
)
def test_the_first_failing_assert_names_the_outcome(problem, results, outcome):
    assert graded(problem, *results).outcome == outcome
    assert not graded(problem, *results).passed


def test_an_untrusted_pass_counts_for_nothing(problem):
    item = graded(problem, result(Verdict.PASSED), result(Verdict.PASSED, trusted=False))
    assert item.n_passed == 1
    assert not item.passed
