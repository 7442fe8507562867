"""The evaluator with the real sandbox, and with real models where a folder of them is named."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

import evaluator
from evaluator.evaluation.evaluate import evaluate
from evaluator.grading.feedback import feedback
from evaluator.grading.grade import grade
from evaluator.problems.mbpp import load_problems
from evaluator.sampling.completions import gold_answers
from evaluator.sampling.model import Decoding, load_policy
from sandbox.client import open_sandbox
from sdpo_bench import main

BACKENDS = ["process", pytest.param("docker", marks=pytest.mark.docker)]


@pytest.fixture(scope="module", params=BACKENDS)
def real_sandbox(request):
    with open_sandbox(request.param) as sandbox:
        yield sandbox


def test_embedded_references_pass_and_wrong_solutions_fail(real_sandbox):
    problems = load_problems("embedded/all").problems
    path = Path(evaluator.__file__).parent / "problems" / "embedded" / "problems.jsonl"
    wrong = {row["task_id"]: row["wrong"] for row in map(json.loads, path.open())}
    gold = [(answer.problem, answer.completion) for answer in gold_answers(problems)]
    bad = [(problem, f"```python\n{wrong[problem.task_id]}\n```") for problem in problems]
    grades = grade([*gold, *bad], real_sandbox)
    assert [item.problem.task_id for item in grades[:40] if not item.passed] == []
    assert [item.problem.task_id for item in grades[40:] if item.passed] == []
    assert all(feedback(item) for item in grades[40:])


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("def long_words(s, n)\n    return 0", "SyntaxError"),
        ("def long_words(s, n):\n    import os\n    os._exit(0)", "crashed"),
        ("def long_words(s, n):\n    return x", "NameError"),
        ("def long_words(s, n):\n    return {}", "wrong_answer"),
        ("class Odd(Exception): pass\ndef long_words(s, n):\n    raise Odd('{prompt}')", "Odd"),
    ],
)
def test_each_failure_has_its_class_and_feedback(real_sandbox, program, outcome):
    problem = load_problems("embedded/test").problems[0]
    (item,) = grade([(problem, f"```python\n{program}\n```")], real_sandbox)
    assert item.outcome == outcome
    assert feedback(item)


def test_the_command_grades_the_references_in_the_real_sandbox(tmp_path):
    arguments = ["eval", "--gold", "--dataset", "embedded/all", "--sandbox", "process"]
    result = CliRunner().invoke(main, [*arguments, "--runs-dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "40/40" in result.stdout


def test_nul_bytes_are_an_error_of_the_answer(real_sandbox):
    problem = load_problems("embedded/test").problems[0]
    (item,) = grade([(problem, "```python\nx = '\x00'\n```")], real_sandbox)
    assert item.outcome in ("SyntaxError", "ValueError")  # which one depends on the interpreter
    assert "null bytes" in feedback(item)


@pytest.mark.models
@pytest.mark.parametrize("name", ["smollm2-135m", "qwen-coder-0.5b"])
def test_a_real_model_writes_code_blocks_that_define_the_function(name, real_sandbox):
    folder = Path(os.environ["SDPO_BENCH_MODELS"]) / name
    problem_set = load_problems("embedded/test", limit=4)
    summary = evaluate(
        problem_set,
        load_policy(str(folder)),
        real_sandbox,
        journal=None,
        eval_id="final",
        label=name,
        decoding=Decoding(max_new_tokens=128),
    )
    assert summary.n == 4
    assert all(item.grade.extraction.n_blocks == 1 for item in summary.graded)
    assert "NameError" not in summary.outcomes
