import json
from pathlib import Path

import evaluator
from evaluator.grading.grade import grade
from evaluator.problems.mbpp import load_problems
from evaluator.sampling.completions import gold_answers
from sandbox.client import open_sandbox

ROWS = [
    json.loads(line)
    for line in (
        Path(evaluator.__file__).parent / "problems" / "embedded" / "problems.jsonl"
    ).open()
]


def test_each_reference_passes(sandbox):
    answers = gold_answers(load_problems("embedded/all").problems)
    grades = grade([(answer.problem, answer.completion) for answer in answers], sandbox)
    assert [grade.problem.task_id for grade in grades if not grade.passed] == []


def test_each_wrong_solution_fails(sandbox):
    wrong = {row["task_id"]: row["wrong"] for row in ROWS}
    problems = load_problems("embedded/all").problems
    grades = grade([(p, f"```python\n{wrong[p.task_id]}\n```") for p in problems], sandbox)
    assert [grade.problem.task_id for grade in grades if grade.passed] == []


def test_train_and_test_are_disjoint_and_cover_all():
    train, test, everything = (
        {problem.task_id for problem in load_problems(f"embedded/{split}").problems}
        for split in ("train", "test", "all")
    )
    assert not train & test
    assert train | test == everything
    assert (len(train), len(test)) == (24, 16)


def test_no_problem_repeats_a_text_or_function():
    problems = load_problems("embedded/all").problems
    assert len({problem.text for problem in problems}) == len(problems)
    assert len({problem.callables[0] for problem in problems}) == len(problems)


IO_ROWS = [
    json.loads(line)
    for line in (Path(evaluator.__file__).parent / "problems" / "embedded" / "io.jsonl").open()
]


def test_each_whole_program_passes_and_each_wrong_one_fails():
    problems = load_problems("embedded/io").problems
    wrong = {row["task_id"]: row["wrong"] for row in IO_ROWS}
    pairs = [(answer.problem, answer.completion) for answer in gold_answers(problems)]
    pairs += [(problem, f"```python\n{wrong[problem.task_id]}\n```") for problem in problems]
    with open_sandbox("process", n_workers=2) as process:
        grades = grade(pairs, process)
    assert [found.problem.task_id for found in grades[:12] if not found.passed] == []
    assert [found.problem.task_id for found in grades[12:] if found.passed] == []
    assert len(problems) == 12 and all(problem.n_hidden and problem.tags for problem in problems)
