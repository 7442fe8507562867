"""Two processes over gloo train as one does: the same groups, rewards and teachers, and nearly the same weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from analysis.journal.lines import scan
from tests.trainer.outcomes import outcome

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("two_processes.py")
ROUNDING = 1e-5
"""Float32 sums over two processes and not over two micro-batches."""
WEIGHTS = 2e-4
"""Adam's first steps have the size of the learning rate, 0.01, and magnify the rounding of small gradients."""


# --multi_gpu is its launcher of processes on one machine; use_cpu in the configuration makes it gloo
TWO = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
       "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")  # fmt: skip


def call(*words, launcher=(), **options):
    return subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), *map(str, words)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, **options,
    )  # fmt: skip


def run(config, runs, *words, launcher=()):
    call(config, "--scripted", *words, launcher=launcher, check=True)
    return result(runs)


def result(runs):
    (run_dir,) = runs.glob("train-*")
    rows = {"rollouts": [], "metrics": []}
    for segment in run_dir.glob("segment-*.jsonl"):
        for line in scan(segment):
            rows.setdefault(line.table, []).append(json.loads(line.row))
    return rows, load_file(run_dir / "adapter" / "adapter_model.safetensors")


def key(row):
    return row["step"], row["group_index"], row["member_index"]


def check_metrics(one, two):
    """What is said of a step is of both processes: all but times, and TRL's extremes of a micro-batch."""
    ours, theirs = (
        {(m["step"], m["name"]): m["value"] for m in rows[0]["metrics"]} for rows in (one, two)
    )
    assert set(ours) == set(theirs)
    for key, value in ours.items():
        if not key[1].startswith(("time/", "memory/")) and not key[1].endswith(
            ("_min", "_max", "step_time")
        ):
            assert theirs[key] == pytest.approx(value, rel=1e-2, abs=1e-4), key


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("per_process", [4, 2], ids=["a group each", "groups over both"])
@pytest.mark.long
def test_two_processes_grade_group_and_teach_as_one(config_file, tmp_path, per_process):
    common = {"max_steps": 2, "temperature": 1.0}
    one = run(config_file(**common, runs_dir=str(tmp_path / "one")), tmp_path / "one")
    accumulation = 8 // (2 * per_process)
    two = run(
        config_file(
            **common,
            runs_dir=str(tmp_path / "two"),
            per_device_train_batch_size=per_process,
            gradient_accumulation_steps=accumulation,
        ),
        tmp_path / "two",
        launcher=TWO,
    )
    rows_one, rows_two = (sorted(r[0]["rollouts"], key=key) for r in (one, two))
    assert len(rows_two) == len(rows_one) == 16, "once, by the main process"
    for ours, theirs in zip(rows_one, rows_two, strict=True):
        for name in ("task_id", "completion", "reward", "outcome", "feedback", "demonstration_member",
                     "feedback_used", "teacher_prompt"):  # fmt: skip
            assert ours[name] == theirs[name], (key(ours), name)
        assert ours["advantage"] == pytest.approx(theirs["advantage"], abs=ROUNDING)
    check_metrics(one, two)
    norms = [
        [m["value"] for m in rows[0]["metrics"] if m["name"] == "grad_norm"] for rows in (one, two)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3) and min(norms[0]) > 1e-5
    for name, tensor in one[1].items():
        assert (tensor - two[1][name]).abs().max() < WEIGHTS


SETTINGS = {
    "routed": ("routed", {}),
    "rlsd": ("rlsd", {"advantage_mix": 0.5, "advantage_mix_steps": 10}),
    "anchored": (
        "anchored",
        {"teacher_context": "nothing", "divergence": "reverse_kl", "anchor_weight": 3.0},
    ),
    "sft": ("sft", {}),
    "hybrid": ("hybrid", {}),
    "reference": ("sdpo", {"teacher_context": "reference"}),
    "pass rate": ("sdpo", {"problem_weight": "pass_rate"}),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("algorithm", "changes"), SETTINGS.values(), ids=SETTINGS)
@pytest.mark.long
def test_every_setting_trains_in_two_processes_as_in_one(config_file, tmp_path, algorithm, changes):
    # groups of four over two processes of two: routing, weights and counts must be those of the step
    common = {"max_steps": 2, "temperature": 1.0, **changes}
    words = ("--algorithm", algorithm)
    one = run(config_file(**common, runs_dir=str(tmp_path / "one")), tmp_path / "one", *words)
    two = run(
        config_file(
            **common,
            runs_dir=str(tmp_path / "two"),
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
        ),
        tmp_path / "two",
        *words,
        launcher=TWO,
    )
    rows_one, rows_two = (sorted(r[0]["rollouts"], key=key) for r in (one, two))
    for ours, theirs in zip(rows_one, rows_two, strict=True):
        for name in ("task_id", "completion", "reward", "teacher_context", "teacher_prompt"):
            assert ours[name] == theirs[name], (key(ours), name)
    norms = [
        [m["value"] for m in rows[0]["metrics"] if m["name"] == "grad_norm"] for rows in (one, two)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3) and min(norms[0]) > 1e-5
    check_metrics(one, two)
    for name, tensor in one[1].items():
        assert (tensor - two[1][name]).abs().max() < WEIGHTS


SHAPES = {
    "a batch a step": {"max_steps": 3},
    "a batch for two steps": {"max_steps": 3, "num_iterations": 2},
    # three micro-batches an epoch, two a step: the last step of each epoch has one
    "an uneven last step": {
        "max_steps": -1,
        "num_train_epochs": 2,
        "max_problems": 6,
        "steps_per_generation": 1,
        "gradient_accumulation_steps": 2,
    },
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
@pytest.mark.long
def test_two_processes_resumed_end_as_if_they_had_not_been(config_file, tmp_path, changes):
    def config(name):
        return config_file(
            **{"gradient_accumulation_steps": 1, **changes},
            save_strategy="steps",
            save_steps=1,
            max_completion_length=8,
            lora_dropout=0.2,
            runs_dir=str(tmp_path / name),
        )

    call(config("plain"), launcher=TWO, check=True)
    call(config("resumed"), "--interrupt-after", 1, launcher=TWO, check=True)
    (run_dir,) = (tmp_path / "resumed").glob("train-*")
    alone = call("--resume", run_dir, stderr=subprocess.PIPE, text=True)
    assert (
        alone.returncode == 1
        and "must have the 2 process(es) it started with, got 1" in alone.stderr
    )
    call("--resume", run_dir, launcher=TWO, check=True)
    assert outcome(tmp_path / "resumed") == outcome(tmp_path / "plain")
