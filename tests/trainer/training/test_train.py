"""Whole runs of the tiny model through TRL, with grades that a hash of the text decides."""

import math
import statistics
from collections import defaultdict

import pytest
import torch
from safetensors.torch import load_file
from trl import GRPOTrainer

from analysis.journal.lines import scan
from sandbox.program import SandboxError
from tests.trainer.finished import Finished
from trainer.endings.faults import OutsideFault
from trainer.options.config import parse_options
from trainer.training.train import train

ROUNDING = 1e-5
"""Float32 losses of size 1e-2, summed in another order."""


@pytest.fixture
def run(config_file, hashed_grades):
    def go(algorithm, **changes):
        options = parse_options(config_file(**changes))
        return Finished(train(algorithm, options, say=lambda _: None))

    return go


@pytest.fixture(scope="module")
def finished_runs():
    return {}


@pytest.fixture
def shared(run, finished_runs):
    """A run that the tests which only read it have in common."""

    def go(algorithm, **changes):
        key = (algorithm, *sorted(changes.items()))
        if key not in finished_runs:
            finished_runs[key] = run(algorithm, **changes)
        return finished_runs[key]

    return go


def test_sdpo_records_every_rollout_with_verdicts_feedback_and_teacher_prompt(shared):
    finished = shared("sdpo")
    rollouts = finished.rows["rollouts"]
    assert len(rollouts) == 16, "2 steps x 2 prompts x 4 generations"
    keys = {(r["step"], r["group_index"], r["member_index"]) for r in rollouts}
    assert keys == {(s, g, m) for s in (1, 2) for g in (0, 1) for m in range(4)}
    executions = {row["execution_id"] for row in finished.rows["executions"]}
    assert {r["execution_id"] for r in rollouts} == executions
    for rollout in rollouts:
        results = [
            row
            for row in finished.rows["test_results"]
            if row["execution_id"] == rollout["execution_id"]
        ]
        assert len(results) == rollout["n_asserts"]
        passed = sum(row["verdict"] == "passed" for row in results)
        assert passed == rollout["n_passed"]
        assert rollout["correctness"] == passed / rollout["n_asserts"]
        assert (rollout["feedback"] is None) == (passed == rollout["n_asserts"])
    assert {r["outcome"] for r in rollouts} > {"passed"}, "both kinds must occur to show anything"
    for rollout in rollouts:
        _check_teacher(rollout, rollouts)


def _check_teacher(rollout, rollouts):
    group = [
        r
        for r in rollouts
        if (r["step"], r["group_index"]) == (rollout["step"], rollout["group_index"])
    ]
    winners = [r["member_index"] for r in group if r["correctness"] == 1.0 and r is not rollout]
    assert rollout["demonstration_member"] == (winners[0] if winners else None)
    if winners:
        assert not rollout["feedback_used"]
        assert "Here is a correct solution" in rollout["teacher_prompt"]
    elif rollout["feedback"] is not None:
        assert rollout["feedback_used"] and "failed:" in rollout["teacher_prompt"]
    else:
        assert rollout["teacher_prompt"] is None
    if rollout["teacher_prompt"] is not None:
        assert rollout["teacher_prompt"].count("<|user|>") == 1, "templated once"
        assert rollout["teacher_prompt"].endswith("<|assistant|>")


def test_the_algorithms_start_from_the_same_rollouts_and_see_the_same_problems(shared):
    runs = [shared(algorithm) for algorithm in ("grpo", "sdpo", "hybrid")]
    tasks = [[r["task_id"] for r in f.rows["rollouts"]] for f in runs]
    assert tasks[0] == tasks[1] == tasks[2]
    first = [
        [(r["completion"], r["reward"]) for r in f.rows["rollouts"] if r["step"] == 1] for f in runs
    ]
    assert first[0] == first[1] == first[2]
    assert len({completion for completion, _ in first[0]}) > 4, "sampled, not constant"
    weights = [f.weights for f in runs]
    name = next(iter(weights[0]))
    assert not torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[1][name], weights[2][name])


def test_one_seed_gives_the_same_run_twice_and_another_seed_another(run, shared):
    first, again, other = shared("sdpo"), run("sdpo"), run("sdpo", seed=8)
    assert all(torch.equal(first.weights[n], again.weights[n]) for n in first.weights)
    assert first.metric("loss") == again.metric("loss")
    assert first.metric("loss") != other.metric("loss")


@pytest.mark.parametrize("size", [1, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("algorithm", ["sdpo", pytest.param("grpo", marks=pytest.mark.slow)])
def test_cutting_the_step_into_micro_batches_changes_nothing(shared, algorithm, size):
    whole, cut = (
        shared(
            algorithm,
            max_steps=1,
            per_device_train_batch_size=b,
            gradient_accumulation_steps=8 // b,
        )
        for b in (8, size)
    )
    assert len(whole.rows["rollouts"]) == len(cut.rows["rollouts"]) == 8
    assert cut.metric("loss")[0] == pytest.approx(whole.metric("loss")[0], abs=ROUNDING)
    assert cut.metric("grad_norm")[0] == pytest.approx(
        whole.metric("grad_norm")[0], rel=1e-3, abs=ROUNDING
    )


def test_without_any_teacher_signal_the_loss_and_the_gradient_are_zero(run):
    finished = run(
        "sdpo",
        use_feedback=False,
        success_threshold=1.0,
        max_steps=1,
        exclude_self=True,
        max_teacher_prompt_tokens=1,
    )
    assert finished.metric("loss") == [0.0] and finished.metric("grad_norm") == [0.0]
    assert finished.metric("teacher/reprompted_fraction") == [0.0]


def test_the_first_grpo_loss_is_about_zero_and_its_gradient_is_not(shared):
    finished = shared(
        "grpo", max_steps=1, per_device_train_batch_size=8, gradient_accumulation_steps=1
    )
    assert abs(finished.metric("loss")[0]) < 1e-2 < finished.metric("grad_norm")[0]


def test_the_teacher_is_saved_beside_the_student_and_lags_behind_it(run):
    finished = run("sdpo", save_strategy="steps", save_steps=2, max_steps=2)
    teacher = load_file(finished.result.run_dir / "teacher_adapter" / "adapter_model.safetensors")
    assert set(teacher) == set(finished.weights)
    changed = [n for n in teacher if not torch.equal(teacher[n], finished.weights[n])]
    assert changed
    checkpoint = finished.result.run_dir / "checkpoints" / "checkpoint-2"
    shadow = load_file(checkpoint / "teacher.safetensors")
    assert all(t.dtype == torch.float32 for t in shadow.values())
    assert not (checkpoint / "teacher").exists(), "the student's checkpoint holds the student alone"


def test_metrics_name_what_happened_in_each_step(shared):
    finished = shared("sdpo")
    for name in (
        "loss",
        "grad_norm",
        "reward",
        "rewards/correctness/mean",
        "teacher/solution_fraction",
    ):
        values = finished.metric(name)
        assert len(values) == 2 and all(math.isfinite(v) for v in values), name


def test_the_reward_that_is_trained_on_is_the_one_that_is_recorded(run):
    finished = run("grpo", format_weight=0.3, scale_rewards="none")
    rollouts = finished.rows["rollouts"]
    for r in rollouts:
        assert r["reward"] == pytest.approx(r["correctness"] + 0.3 * r["format_score"])
    for step, logged in enumerate(finished.metric("reward"), start=1):
        rewards = [r["reward"] for r in rollouts if r["step"] == step]
        assert logged == pytest.approx(sum(rewards) / len(rewards), abs=ROUNDING)
    for start in range(0, len(rollouts), 4):
        group = rollouts[start : start + 4]
        mean = sum(r["reward"] for r in group) / 4
        for r in group:
            assert r["advantage"] == pytest.approx(r["reward"] - mean, abs=ROUNDING)


def test_a_sandbox_fault_stops_the_run_and_rewards_nobody(run, monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise SandboxError("the engine must answer, got nothing; start it")

    monkeypatch.setattr("trainer.rollouts.rollouts.grade", fail)
    with pytest.raises(OutsideFault, match="no step was trained yet"):
        run("sdpo")
    (segment,) = (tmp_path / "runs").glob("*/segment-*.jsonl")
    tables = {line.table for line in scan(segment)}
    assert "rollouts" not in tables and "run_states" in tables


def test_evaluations_are_recorded_at_their_steps_and_leave_training_alone(run, shared):
    plain = shared("sdpo")
    evaluated = run(
        "sdpo",
        evaluate_every=1,
        eval_dataset="embedded/test",
        eval_max_problems=2,
        max_completion_length=12,
    )
    assert [row["step"] for row in evaluated.rows["evals"]] == [0, 1, 2]
    assert [row["n"] for row in evaluated.rows["evals"]] == [2, 2, 2]
    assert all(torch.equal(plain.weights[n], evaluated.weights[n]) for n in plain.weights)


PHASES = ("sampling", "sandbox", "teacher", "student", "rest")


def test_the_time_split_holds_every_phase_and_adds_up_to_the_steps(run):
    finished = run("sdpo", max_completion_length=24)
    split = {phase: finished.metric(f"time/{phase}_s") for phase in PHASES}
    assert all(len(values) == 2 and min(values) > 0.0 for values in split.values())
    for step, step_time in enumerate(finished.metric("step_time")):
        # what TRL times lies within the student's pass and what is nested in it
        assert sum(values[step] for values in split.values()) >= step_time


def test_metrics_of_the_groups_agree_with_the_recorded_rows(shared):
    finished = shared("sdpo")
    for step in (1, 2):
        rows = [r for r in finished.rows["rollouts"] if r["step"] == step]
        groups = [[r for r in rows if r["group_index"] == g] for g in (0, 1)]

        def metric(name, step=step):
            return finished.metric(name)[step - 1]

        spreads = [statistics.pstdev(r["reward"] for r in group) for group in groups]
        assert metric("groups/reward_std") == pytest.approx(sum(spreads) / 2)
        assert metric("groups/no_reward_signal_fraction") == sum(s == 0 for s in spreads) / 2
        silent = [all(r["teacher_prompt"] is None for r in group) for group in groups]
        assert metric("groups/no_teacher_signal_fraction") == sum(silent) / 2
        passed = sum(r["outcome"] == "passed" for r in rows)
        if passed:
            assert metric("outcome/passed_fraction") == passed / len(rows)
    assert finished.metric("distill/loss") == pytest.approx(finished.metric("loss"), abs=ROUNDING)
    assert min(finished.metric("memory/peak_bytes")) > 1 << 20
    assert len(finished.metric("distill/kl_per_token")) == 2


def test_a_hybrid_step_names_both_losses_and_their_mixture(run):
    finished = run("hybrid", hybrid_lambda=0.25, max_steps=1)
    (distill,), (policy,) = finished.metric("distill/loss"), finished.metric("policy/loss")
    assert finished.metric("loss")[0] == pytest.approx(0.25 * policy + 0.75 * distill, abs=ROUNDING)


def test_a_sampler_with_other_probabilities_is_corrected_for_and_one_without_is_not(
    run, shared, monkeypatch
):
    plain = shared("sdpo", max_steps=1)
    original = GRPOTrainer._generate_single_turn

    def with_logprobs(self, *args, **kwargs):
        ids, _ = original(self, *args, **kwargs)
        return ids, [[-50.0] * len(row) for row in ids]  # far less than the trainer thinks

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", with_logprobs)
    corrected = run("sdpo", max_steps=1)
    assert corrected.metric("loss")[0] == pytest.approx(2 * plain.metric("loss")[0], rel=1e-5)
    assert corrected.metric("distill/mismatch_clipped_fraction") == pytest.approx([1.0])
    switched_off = run("sdpo", max_steps=1, mismatch_clip=None)
    assert switched_off.metric("loss") == plain.metric("loss")
    assert plain.metric("distill/mismatch_clipped_fraction") == []


@pytest.mark.slow
def test_gradient_checkpointing_changes_memory_and_no_number(run):
    plain, checkpointed = (
        run("sdpo", max_steps=1),
        run("sdpo", max_steps=1, gradient_checkpointing=True),
    )
    # a prompt is computed once without it and for each row with it: the same sums in another order
    assert checkpointed.metric("loss")[0] == pytest.approx(plain.metric("loss")[0], rel=1e-5)
    assert checkpointed.metric("grad_norm")[0] == pytest.approx(
        plain.metric("grad_norm")[0], rel=1e-5
    )


@pytest.mark.slow
def test_an_adapter_on_the_head_falls_back_to_logits_and_says_so(run, logged):
    finished = run("sdpo", max_steps=1, lora_target_modules=["q_proj", "lm_head"])
    assert any("the output head must be a linear layer" in message for message in logged)
    assert finished.metric("loss")[0] > 0 and finished.metric("grad_norm")[0] > 0


@pytest.mark.slow
def test_a_mixed_teacher_of_a_trained_head_falls_back_to_logits_and_says_so(run, logged):
    run("sdpo", max_steps=1, use_peft=False, teacher="trust_region")
    assert any("a mixed teacher must share the student's head" in message for message in logged)


def test_steps_after_the_last_log_are_logged_at_the_end(run):
    """TRL puts their metrics into the summary that ends a run, which is no step: they were lost."""
    finished = run("sdpo", max_steps=3, logging_steps=2)
    rows = [row for row in finished.rows["metrics"] if row["name"] == "reward"]
    assert [row["step"] for row in rows] == [2, 3]
    correct = defaultdict(list)
    for rollout in finished.rows["rollouts"]:
        correct[rollout["step"]].append(rollout["reward"])
    assert rows[1]["value"] == pytest.approx(statistics.mean(correct[3]), abs=ROUNDING)
    both = statistics.mean(correct[1] + correct[2])
    assert rows[0]["value"] == pytest.approx(both, abs=ROUNDING)
    names = {row["name"] for row in finished.rows["metrics"] if row["step"] == 3}
    assert {"time/sampling_s", "memory/peak_bytes"} <= names and "loss" not in names
