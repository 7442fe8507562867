import json

import pytest
from click.testing import CliRunner

from evaluator.cli import shortcuts
from evaluator.cli.shortcuts import best_scores
from evaluator.problems.problem import normalised_row, problem_from_row


def problem(task_id, code, *asserts):
    row = {"task_id": task_id, "text": "", "code": code, "test_list": list(asserts)}
    return problem_from_row(normalised_row(row))


YES = problem(1, "def yes(x):\n    return True", "assert yes(1) == True", "assert yes(2) == True")
SAME = problem(2, "def same(x):\n    return x", "assert same(1) == 1", "assert same('a') == 'a'")
LONGEST = problem(
    3,
    "def longest(xs):\n    return len(xs)",
    "assert longest([1]) == 1",
    "assert longest([3, 4]) == 2",
)
SECOND = problem(
    4, "def second(a, b):\n    return b", "assert second(1, 5) == 5", "assert second(6, 2) == 2"
)
HARD = problem(
    5,
    "def hard(x):\n    return 3 * x + 1",
    "assert hard(1) == 4",
    "assert hard(2) == 7",
    "assert hard(3) == 10",
)
NAMED_AS_A_BUILTIN = problem(
    6, "def sum(a, b):\n    return a + b", "assert sum(1, 2) == 3", "assert sum(4, 2) == 6"
)
PREDICATE = problem(7, "def odd(x):\n    return x % 2 == 1", "assert odd(1)", "assert not odd(2)")


@pytest.mark.parametrize(
    ("asked", "falls_to"),
    [
        (YES, {"constant", "lookup-all", "lookup-first"}),
        (SAME, {"argument", "lookup-all"}),
        (LONGEST, {"builtin", "lookup-all"}),
        (SECOND, {"argument", "lookup-all"}),
        (HARD, {"lookup-all"}),
        (NAMED_AS_A_BUILTIN, {"lookup-all"}),
        (PREDICATE, {"lookup-all"}),
    ],
)
def test_each_problem_falls_to_the_shortcuts_that_solve_it(sandbox, asked, falls_to):
    scores = best_scores([asked], sandbox)
    passed = {score.kind for score in scores if score.passed}
    assert passed - {"builtin"} == falls_to - {"builtin"}
    assert ("builtin" in passed) >= ("builtin" in falls_to)
    assert {score.task_id for score in scores} == {asked.task_id}


def test_the_best_of_a_kind_is_kept_with_its_program(sandbox):
    scores = {score.kind: score for score in best_scores([HARD], sandbox)}
    assert (scores["lookup-first"].n_passed, scores["lookup-first"].n_asserts) == (1, 3)
    assert scores["constant"].n_passed == 1
    assert scores["lookup-all"].code.startswith("def hard(*args):")


def test_the_command_records_every_score(sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(shortcuts, "open_sandbox", lambda backend: sandbox)
    path = tmp_path / "own.jsonl"
    row = {"task_id": 1, "text": "Hard.", "code": HARD.reference, "test_list": list(HARD.asserts)}
    path.write_text(json.dumps(row))
    out = tmp_path / "scores.json"
    result = CliRunner().invoke(shortcuts.main, ["--dataset", str(path), "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert "0 of 1 fall to a constant, an argument or one builtin." in result.output
    scores = json.loads(out.read_text())["scores"]
    assert {score["kind"] for score in scores} == set(shortcuts.KINDS)
