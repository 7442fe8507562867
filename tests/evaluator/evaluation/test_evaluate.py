import json

import pytest

from analysis.journal.journal import Journal, segments
from analysis.journal.lines import Line, scan
from analysis.provenance import run_info
from evaluator.evaluation import evaluate as evaluation
from evaluator.evaluation.evaluate import evaluate, graded_batches, in_batches
from evaluator.problems.mbpp import load_problems
from evaluator.problems.prompt import MBPP, PROTOCOLS
from evaluator.sampling.completions import Answer, gold_answers
from evaluator.sampling.model import Decoding
from sandbox.program import SandboxError

PROBLEMS = load_problems("embedded/test")


@pytest.fixture
def journal(tmp_path):
    info = run_info(
        kind="eval",
        label="x",
        config={},
        dataset=PROBLEMS,
        protocol=MBPP,
        sandbox="fake",
    )
    with Journal.create(tmp_path / "runs", info) as journal:
        yield journal


def rows(journal, table):
    found = []
    for _, path in segments(journal.run_dir):
        for line in scan(path):
            assert isinstance(line, Line)
            if line.table == table:
                found.append(json.loads(line.row))
    return found


def record(answers, sandbox, journal=None, **options):
    defaults = {"eval_id": "final", "label": "x", "protocol": "recorded", "decoding": "recorded"}
    graded = graded_batches(in_batches(answers, 5), sandbox, timeout_s=5)
    return evaluation.record(PROBLEMS, graded, journal=journal, **{**defaults, **options})


def test_gold_answers_pass_and_every_row_is_stored(sandbox, journal):
    summary = record(gold_answers(PROBLEMS.problems), sandbox, journal)
    assert (summary.n, summary.k, summary.pass_at_1) == (16, 16, 1.0)
    assert summary.outcomes == {}
    results = rows(journal, "eval_results")
    assert [row["task_id"] for row in results] == list(range(25, 41))
    assert all(row["passed"] and row["feedback"] is None for row in results)
    assert len(rows(journal, "executions")) == 16
    assert len(rows(journal, "test_results")) == 48
    assert {row["execution_id"] for row in rows(journal, "test_results")} == {
        row["execution_id"] for row in results
    }
    (row,) = rows(journal, "evals")
    assert (row["eval_id"], row["n"], row["k"], row["step"]) == ("final", 16, 16, None)
    assert row["interval_low"] == summary.interval.low


def test_a_policy_is_sampled_graded_and_stored(tiny_policy, sandbox, journal):
    counts = []
    summary = evaluate(
        PROBLEMS,
        tiny_policy,
        sandbox,
        journal=journal,
        eval_id="step-50",
        label="tiny",
        step=50,
        decoding=Decoding(max_new_tokens=8),
        batch_size=6,
        progress=counts.append,
    )
    assert (summary.n, summary.k) == (16, 0)
    assert counts == [6, 6, 4]
    results = {row["task_id"]: row for row in rows(journal, "eval_results")}
    assert len(results) == 16
    assert PROBLEMS.problems[0].asserts[0] in results[25]["prompt"]
    assert results[25]["execution_id"] == "step-50/25/0"
    assert results[25]["n_completion_tokens"] <= 8
    assert results[25]["truncated"] in (True, False)
    (row,) = rows(journal, "evals")
    assert (row["step"], row["protocol"], row["decoding"]) == (50, "mbpp", "greedy, 8 tokens")


def test_several_samples_are_told_apart_and_the_first_counts(tiny_policy, sandbox, journal):
    summary = evaluate(
        PROBLEMS,
        tiny_policy,
        sandbox,
        journal=journal,
        eval_id="e",
        label="tiny",
        decoding=Decoding(max_new_tokens=4, temperature=1.0, n_samples=3),
        protocol=PROTOCOLS["mbpp-name"],
    )
    assert summary.n == 16
    assert len(summary.graded) == 48
    keys = [(row["task_id"], row["sample_index"]) for row in rows(journal, "eval_results")]
    assert sorted(keys) == [(task, sample) for task in range(25, 41) for sample in range(3)]


def test_what_was_graded_before_a_sandbox_failure_is_kept(sandbox, journal):
    calls = []

    class Failing:
        def run(self, programs):
            calls.append(len(programs))
            if len(calls) == 2:
                raise SandboxError("gone")
            return sandbox.run(programs)

    with pytest.raises(SandboxError):
        record(gold_answers(PROBLEMS.problems), Failing(), journal)
    assert len(rows(journal, "eval_results")) == 5
    assert rows(journal, "evals") == []


def test_hostile_completions_are_graded_and_stored(sandbox, journal):
    first, second, third = PROBLEMS.problems[:3]
    answers = [
        Answer(first, "\x00\ud800" + "x" * 2_000_000),
        Answer(second, "```python\n\x00\n```"),
        Answer(third, "'; DROP TABLE evals; -- <script> {prompt} \x1b[31m"),
    ]
    summary = record(answers, sandbox, journal)
    assert (summary.n, summary.k) == (3, 0)
    stored = rows(journal, "eval_results")
    assert stored[2]["completion"] == answers[2].completion


def test_failure_classes_are_counted_over_all_completions(sandbox):
    first, second = PROBLEMS.problems[:2]
    wrong = f"```\ndef {first.callables[0]}(*a):\n    return None\n```"
    answers = [Answer(first, wrong), Answer(first, "no", 1), Answer(second, "no")]
    summary = record(answers, sandbox)
    assert summary.outcomes == {"no_code": 2, "wrong_answer": 1}
    assert summary.failures == [(25, "wrong_answer", False), (26, "no_code", False)]


def test_the_json_form_is_as_documented(sandbox):
    summary = record(gold_answers(PROBLEMS.problems[:2]), sandbox)
    content = summary.to_json()
    assert list(content) == ["n", "k", "pass_at_1", "interval", "results"]
    assert content["results"] == [
        {"task_id": 25, "passed": True, "outcome": "passed"},
        {"task_id": 26, "passed": True, "outcome": "passed"},
    ]
    json.dumps(content, allow_nan=False)
