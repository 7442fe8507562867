"""The settings that people compare: what each one computes, on whole runs of the tiny model."""

import json
import math
from collections import defaultdict

import pytest

from analysis.segment import scan
from trainer.config import parse_options
from trainer.run import train


class Finished:
    """What a run left behind: its rows by table."""

    def __init__(self, result):
        self.rows = defaultdict(list)
        for segment in sorted(result.run_dir.glob("segment-*.jsonl")):
            for line in scan(segment):
                self.rows[line.table].append(json.loads(line.row))
        self.layers = result.layers

    def metric(self, name):
        return [row["value"] for row in self.rows["metrics"] if row["name"] == name]


@pytest.fixture
def run(config_file, monkeypatch, hashed_grades):
    """Three steps of an algorithm with some options."""
    monkeypatch.setattr("trainer.run.open_sandbox", lambda backend: hashed_grades)

    def go(algorithm, **changes):
        options = parse_options(config_file(max_steps=3, max_completion_length=8, **changes))
        finished = Finished(train(algorithm, options, say=lambda _: None))
        assert len(finished.metric("loss")) == 3
        assert all(math.isfinite(value) for value in finished.metric("loss"))
        assert max(finished.metric("grad_norm")) > 0.0
        return finished

    return go


def passed(rollout):
    return rollout["correctness"] == 1.0


def test_a_reference_teacher_is_shown_the_reference_of_each_problem_and_no_peer(run):
    from evaluator.mbpp import load_problems

    references = {p.task_id: p.reference for p in load_problems("embedded/train").problems}
    finished = run("sdpo", teacher_context="reference")
    assert {passed(row) for row in finished.rows["rollouts"]} == {True, False}
    for row in finished.rows["rollouts"]:
        assert references[row["task_id"]] in row["teacher_prompt"]
        assert row["demonstration_member"] is None and not row["feedback_used"]
    assert finished.metric("teacher/reprompted_fraction") == [1.0] * 3
    assert finished.metric("teacher/solution_fraction") == [1.0] * 3


def test_a_feedback_teacher_is_shown_feedback_alone(run):
    finished = run("sdpo", teacher_context="feedback")
    for row in finished.rows["rollouts"]:
        assert row["demonstration_member"] is None
        assert row["feedback_used"] == (not passed(row)) == (row["teacher_prompt"] is not None)


@pytest.mark.parametrize("context", ["reference", "feedback"])
def test_an_audit_derives_other_contexts_of_the_teacher_too(run, context):
    finished = run("audit", teacher_context=context)
    assert {layer.name: layer.passed for layer in finished.layers}["teacher"]
    assert all(layer.passed for layer in finished.layers)
