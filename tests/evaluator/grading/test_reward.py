from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.grading.grade import grade
from evaluator.grading.reward import format_score, reward
from tests.evaluator.conftest import FakeSandbox

GOOD = "```python\ndef add(a, b):\n    return a + b\n```"


def grade_one(problem, completion):
    (only,) = grade([(problem, completion)], FakeSandbox())
    return only


@pytest.mark.parametrize(
    ("completion", "correctness", "form"),
    [
        (GOOD, 1.0, 1.0),
        ("```python\ndef add(a, b):\n    return a - b\n```", 1 / 3, 1.0),
        ("def add(a, b):\n    return a + b", 1.0, 2 / 3),
        ("```python\ndef add(a, b):\n    return a + b", 1.0, 2 / 3),
        (GOOD + "\n" + GOOD, 1.0, 2 / 3),
        ("```python\ndef sub(a, b):\n    return a + b\n```", 0.0, 2 / 3),
        ("```python\ndef add(a, b) return\n```", 0.0, 1 / 3),
        ("```python\n```", 0.0, 0.0),
        ("", 0.0, 0.0),
        ("no", 0.0, 0.0),
        ("```python\ndef add(a, b):\n    return '\x00'\n```", 0.0, 1 / 3),
    ],
)
def test_correctness_and_format_are_independent(problem, completion, correctness, form):
    found = reward(grade_one(problem, completion))
    assert found.correctness == pytest.approx(correctness)
    assert found.format_score == pytest.approx(form)
    assert found.total == pytest.approx(correctness + 0.3 * form)


def test_the_weight_of_format_can_be_set(problem):
    assert reward(grade_one(problem, GOOD), format_weight=0.0).total == 1.0
    with pytest.raises(ValueError, match="format_weight must be 0 or more, got -1"):
        reward(grade_one(problem, GOOD), format_weight=-1)


def test_good_format_and_most_tests_are_no_success(problem):
    almost = "```python\ndef add(a, b):\n    return a + b if a < 1 else 0\n```"
    item = grade_one(problem, almost)
    assert reward(item, format_weight=1.0).total > 1.0
    assert not item.passed


def test_an_assigned_function_and_an_import_define(problem):
    assert format_score(grade_one(problem, "```\nadd = lambda a, b: a + b\n```")) == 1.0
    assert format_score(grade_one(problem, "```\nfrom operator import add\n```")) == 1.0


@pytest.mark.parametrize(
    ("code", "form"),
    [
        ("add: object = lambda a, b: a + b", 1.0),
        ("add: object", 1.0),
        ("def add(a, b):\n    return a + b\nadd.calls = 0\nx, y = 1, 2", 1.0),
        ("x = add = max", 1.0),
        ("import operator as add", 1.0),
        ("class add: pass", 1.0),
        ("async def add(a, b): pass", 1.0),
        ("x = 1\nadd.calls = 0", 2 / 3),
        ("from add import other", 2 / 3),
    ],
)
def test_every_statement_that_binds_the_name_defines_it(problem, code, form):
    assert format_score(grade_one(problem, f"```python\n{code}\n```")) == pytest.approx(form)


def test_every_function_that_the_asserts_call_must_be_defined(problem):
    two = replace(problem, callables=("add", "twice"))
    assert format_score(grade_one(two, GOOD)) == pytest.approx(2 / 3)
    both = GOOD.replace("\n```", "\ntwice = add\n```")
    assert format_score(grade_one(two, both)) == 1.0


@given(completion=st.text(alphabet="`\npydefa():, b+return ", max_size=120))
def test_every_part_lies_in_its_range(completion):
    from evaluator.answers.extract import extract
    from evaluator.grading.grade import Grade, nothing_ran
    from evaluator.problems.mbpp import load_problems

    problem = load_problems("embedded/test").problems[0]
    extraction = extract(completion, problem.callables)
    found = reward(Grade(problem, completion, extraction, nothing_ran(problem)))
    assert 0.0 <= found.format_score <= 1.0
    assert found.correctness == 0.0
