"""The settings that people compare: what each one computes, on whole runs of the tiny model."""

import json
import math
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from analysis.journal.lines import scan
from analysis.queries import eval_curve, run_query
from analysis.warehouse.warehouse import connect, ingest
from evaluator.statistics.stats import wilson_of_mean
from trainer.audit.second_loss import (
    Oracle,
    imitation_oracle,
    oracle,
    policy_oracle,
    scaled_advantage_oracle,
)
from trainer.options.config import ConfigError, parse_options
from trainer.options.settings import check_settings
from trainer.step.forward import completion_logits
from trainer.step.loss_trainer import BenchTrainer, rows_of
from trainer.training.train import train

CONFIGS = Path(__file__).parents[3] / "configs"
GRADIENT = 2e-4
"""Relative to the largest entry: float32 through two layers, against logits of a pass apart."""
TAU, TOP_K = 0.7, 10


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
def run(config_file, hashed_grades):
    """Three steps of an algorithm with some options."""

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
    from evaluator.problems.mbpp import load_problems

    references = {p.task_id: p.reference for p in load_problems("embedded/train").problems}
    finished = run("sdpo", teacher_context="reference")
    assert {passed(row) for row in finished.rows["rollouts"]} == {True, False}
    for row in finished.rows["rollouts"]:
        assert references[row["task_id"]] in row["teacher_prompt"]
        assert row["demonstration_member"] is None and not row["feedback_used"]
        assert row["teacher_context"] == "reference"
    assert finished.metric("teacher/reprompted_fraction") == [1.0] * 3
    assert finished.metric("teacher/solution_fraction") == [1.0] * 3


def test_a_feedback_teacher_is_shown_feedback_alone(run):
    finished = run("sdpo", teacher_context="feedback")
    for row in finished.rows["rollouts"]:
        assert row["demonstration_member"] is None
        assert row["feedback_used"] == (not passed(row)) == (row["teacher_prompt"] is not None)
        assert row["teacher_context"] == (None if passed(row) else "feedback")


@pytest.mark.parametrize("context", ["reference", "feedback"])
def test_an_audit_derives_other_contexts_of_the_teacher_too(run, context):
    finished = run("audit", teacher_context=context)
    assert {layer.name: layer.passed for layer in finished.layers}["teacher"]
    assert all(layer.passed for layer in finished.layers)


class Watch:
    """Compares each micro-batch's gradient, and its loss, with what the oracle makes of plain logits."""

    def __init__(self, expected):
        self.expected, self.n_checked, self.largest = expected, 0, 0.0

    def __call__(self, trainer, model, inputs, loss):
        mask = inputs["completion_mask"].bool()
        student = completion_logits(model, rows_of(inputs, "prompt"))
        teacher = None
        if trainer.teacher is not None:
            with trainer.as_teacher(model) as its, its.weights():
                teacher = completion_logits(model, rows_of(inputs, "teacher_prompt"))[mask]
        value, by_logit = self.expected(trainer, inputs, mask, student.detach()[mask], teacher)
        parameters = [p for p in model.parameters() if p.requires_grad]
        surrogate = (by_logit.to(student.dtype) * student[mask]).sum()
        exact = torch.autograd.grad(surrogate, parameters, allow_unused=True)
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        scale = max(float(g.abs().max()) for g in exact)
        assert loss.item() == pytest.approx(float(value), abs=1e-5)
        for ours, theirs in zip(found, exact, strict=True):
            assert float((ours - theirs).abs().max()) <= GRADIENT * max(scale, 1e-3)
        self.n_checked, self.largest = self.n_checked + 1, max(self.largest, scale)


@pytest.fixture
def watched(run, monkeypatch):
    """A run whose every micro-batch is compared with `expected`."""
    original = BenchTrainer._compute_loss

    def go(expected, algorithm, *, n_micro_batches=6, **changes):
        watch = Watch(expected)

        def compute(self, model, inputs):
            loss = original(self, model, inputs)
            watch(self, model, inputs, loss)
            return loss

        monkeypatch.setattr(BenchTrainer, "_compute_loss", compute)
        finished = run(algorithm, **changes)
        assert watch.n_checked == n_micro_batches and watch.largest > 1e-3
        return finished

    return go


def of_rows(values, mask):
    """A value a row, at each of its tokens."""
    return values.unsqueeze(1).expand_as(mask)[mask]


def distillation(student, teacher, inputs, mask, **options):
    """The oracle of the default divergence, over all tokens."""
    return oracle(
        student,
        teacher,
        inputs["completion_ids"][mask],
        **{
            "support": "topk_tail",
            "divergence": "jensen_shannon",
            "alpha": 0.5,
            "top_k": TOP_K,
            "temperature": TAU,
            **options,
        },
    )


def weighted(part: Oracle, weights):
    return (part.loss * weights).sum(), part.gradient * weights.unsqueeze(-1)


def step_tokens(inputs):
    """Completion tokens of the optimizer step, as TRL counts them: one rollout batch a step."""
    return float(inputs["num_items_in_batch"])


def test_routing_gives_passing_rows_the_policy_term_and_taught_failing_ones_the_distillation(
    watched,
):
    def expected(trainer, inputs, mask, student, teacher):
        taught = of_rows(inputs["distill_mask"], mask)
        policy = policy_oracle(
            student,
            inputs["completion_ids"][mask],
            of_rows(inputs["advantages"], mask),
            temperature=TAU,
        )
        value, gradient = weighted(policy, (~taught).double())
        corrected, correction = weighted(
            distillation(student, teacher, inputs, mask), taught.double()
        )
        n = step_tokens(inputs)
        return (value + corrected) / n, (gradient + correction) / n

    finished = watched(expected, "routed")
    kinds = {(passed(row), row["teacher_prompt"] is not None) for row in finished.rows["rollouts"]}
    assert kinds >= {(True, False), (False, True)}
    assert not any(passed(row) and row["teacher_prompt"] for row in finished.rows["rollouts"])


def test_a_teacher_scales_token_advantages_and_gives_no_loss_of_its_own(watched):
    def expected(trainer, inputs, mask, student, teacher):
        ids, advantages = inputs["completion_ids"][mask], of_rows(inputs["advantages"], mask)
        taught = of_rows(inputs["distill_mask"], mask)
        share = 0.5 * (1 - trainer.state.global_step / 10)
        scaled = scaled_advantage_oracle(
            student, teacher, ids, advantages, clip=0.3, mix=share, temperature=TAU
        )
        scaled = torch.where(taught, scaled, advantages.double())
        policy = policy_oracle(student, ids, scaled, temperature=TAU)
        return policy.loss.sum() / step_tokens(inputs), policy.gradient / step_tokens(inputs)

    watched(expected, "rlsd", advantage_clip=0.3, advantage_mix=0.5, advantage_mix_steps=10)


def test_an_anchored_run_is_grpo_with_a_divergence_from_its_own_moving_average(watched):
    def expected(trainer, inputs, mask, student, teacher):
        ids, n = inputs["completion_ids"][mask], step_tokens(inputs)
        policy = policy_oracle(student, ids, of_rows(inputs["advantages"], mask), temperature=TAU)
        anchor = distillation(student, teacher, inputs, mask, divergence="reverse_kl")
        value = (policy.loss.sum() + 3.0 * anchor.loss.sum()) / n
        return value, (policy.gradient + 3.0 * anchor.gradient) / n

    finished = watched(
        expected,
        "anchored",
        teacher_context="nothing",
        divergence="reverse_kl",
        anchor_weight=3.0,
        ema_rate=0.3,
    )
    for row in finished.rows["rollouts"]:
        assert row["teacher_prompt"] == row["prompt"] and row["teacher_context"] == "nothing"
    drift = finished.metric("distill/loss")
    assert drift[0] == pytest.approx(0.0, abs=1e-6) and max(drift) > 1e-6


def test_imitation_raises_the_likelihood_of_passing_rows_alone(watched):
    divided_by = {}

    def expected(trainer, inputs, mask, student, teacher):
        divided_by[trainer.state.global_step + 1] = float(inputs["n_passing_tokens"])
        assert teacher is None
        passing = of_rows(inputs["passing"], mask).double()
        exact = imitation_oracle(student, inputs["completion_ids"][mask], temperature=TAU)
        value, gradient = weighted(exact, passing)
        n = max(float(inputs["n_passing_tokens"]), 1.0)
        return value / n, gradient / n

    finished = watched(expected, "sft")
    for step in (1, 2, 3):
        rows = [row for row in finished.rows["rollouts"] if row["step"] == step]
        assert {passed(row) for row in rows} == {True, False}
        assert divided_by[step] == sum(row["n_completion_tokens"] for row in rows if passed(row))
    assert all(row["teacher_prompt"] is None for row in finished.rows["rollouts"])


def test_pass_rates_weigh_the_problems_of_a_distillation(watched):
    seen = []

    def expected(trainer, inputs, mask, student, teacher):
        taught = of_rows(inputs["distill_mask"], mask).double()
        weights = of_rows(inputs["problem_weight"], mask).double()
        seen.extend(inputs["problem_weight"].tolist())
        value, gradient = weighted(distillation(student, teacher, inputs, mask), taught * weights)
        n = float(inputs["n_distill_tokens"])
        return value / n, gradient / n

    finished = watched(expected, "sdpo", problem_weight="pass_rate")
    of_a_step = defaultdict(lambda: defaultdict(list))
    for row in finished.rows["rollouts"]:
        of_a_step[row["step"]][row["group_index"]].append(passed(row))
    exact = []
    for groups in of_a_step.values():
        raw = [math.sqrt(sum(g) / 4 * (1 - sum(g) / 4)) for g in groups.values()]
        for value in raw:
            exact += [value / (sum(raw) / len(raw)) if sum(raw) else 0.0] * 4
    assert len(set(exact)) > 1, "the weights must differ to show anything"
    assert sorted(seen) == pytest.approx(sorted(exact), abs=1e-5)


def test_the_rich_feedback_setting_updates_within_a_rollout_batch_with_importance_weights(watched):
    """configs/sdpo-rich-feedback.yaml at a small size: two updates a rollout batch, one problem each."""
    weights = []

    def expected(trainer, inputs, mask, student, teacher):
        old = inputs["old_per_token_logps"][mask]
        exact = distillation(
            student,
            teacher,
            inputs,
            mask,
            divergence="reverse_kl",
            importance_clip=2.0,
            old_logprobs=old,
        )
        logp = (student.double() / TAU).log_softmax(-1)
        now = logp.gather(-1, inputs["completion_ids"][mask].unsqueeze(-1)).squeeze(-1)
        weights.append(float(((now - old).exp() - 1).abs().max()))
        # the reference's mean: over all sequences of the update, each over its own taught tokens
        taught = of_rows(inputs["distill_mask"], mask).double()
        lengths = of_rows(inputs["completion_mask"].sum(dim=1), mask)
        return weighted(exact, taught / lengths / len(mask))

    finished = watched(
        expected,
        "sdpo",
        n_micro_batches=3,
        gradient_accumulation_steps=1,
        steps_per_generation=2,
        support="topk_tail",
        divergence="reverse_kl",
        aggregation="reference",
        ema_rate=0.01,
        success_threshold=0.5,
    )
    assert {row["step"] for row in finished.rows["rollouts"]} == {1, 3}
    assert weights[0] < 1e-3 and weights[2] < 1e-3, "fresh from the sampler, the weights are 1"
    assert weights[1] > 1e-2, "the second update of a batch is off its policy"


def test_an_audit_derives_the_weights_of_problems_too(run):
    finished = run("audit", problem_weight="pass_rate")
    assert all(layer.passed for layer in finished.layers)
    assert {"aggregation.weight"} < {row["layer"] for row in finished.rows["audits"]}


@pytest.mark.parametrize(
    ("algorithm", "changes", "message"),
    [
        ("anchored", {}, "teacher_context 'peer'; set it to nothing"),
        ("routed", {"aggregation": "reference"}, "use dapo and token_mean"),
        ("routed", {"loss_type": "grpo"}, "use dapo and token_mean"),
        ("grpo", {"problem_weight": "pass_rate"}, "it belongs to sdpo, hybrid, audit"),
        ("sdpo", {"advantage_clip": 0.5}, "it belongs to rlsd"),
        ("hybrid", {"anchor_weight": 1.0}, "it belongs to anchored"),
    ],
)
def test_a_setting_that_would_not_be_what_its_name_says_is_refused(
    config_file, algorithm, changes, message
):
    options = parse_options(config_file(**changes))
    with pytest.raises(ConfigError, match=message):
        train(algorithm, options, say=lambda _: None)


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher_context": "peers"},
        {"problem_weight": "sqrt"},
        {"advantage_clip": 1.5},
        {"advantage_mix": -0.1},
        {"advantage_mix_steps": -1},
        {"anchor_weight": -1.0},
    ],
)
def test_a_setting_out_of_range_is_refused(config_file, changes):
    with pytest.raises(ConfigError, match=f"{next(iter(changes))} must be in range"):
        parse_options(config_file(**changes))


@pytest.mark.parametrize(
    ("name", "base", "changed"),
    [
        ("sdpo-reference", "sdpo", {"teacher_context": "reference"}),
        ("sdpo-pass-rate", "sdpo", {"problem_weight": "pass_rate"}),
        ("routed", "sdpo", {}),
        ("rlsd", "sdpo", {"advantage_mix": 0.5, "advantage_mix_steps": 50}),
        ("anchored", "sdpo", {"divergence": "reverse_kl", "teacher_context": "nothing"}),
        ("sft", "grpo", {}),
    ],
)
def test_a_setting_differs_from_what_it_is_compared_with_in_what_it_is_named_for(
    name, base, changed
):
    ours, theirs = (
        parse_options(CONFIGS / f"{n}.yaml", ["--bf16", "false"]).resolved() for n in (name, base)
    )
    for part in ours:
        different = {
            key: ours[part][key] for key in ours[part] if ours[part][key] != theirs[part][key]
        }
        assert different == (changed if part == "bench" else {})


def test_the_rich_feedback_configuration_is_that_of_the_paper():
    options = parse_options(CONFIGS / "sdpo-rich-feedback.yaml", ["--bf16", "false"])
    bench, training = options.bench, options.training
    assert (bench.divergence, bench.support, bench.distill_top_k) == ("reverse_kl", "topk_tail", 20)
    assert (bench.ema_rate, bench.importance_clip, bench.success_threshold) == (0.01, 2.0, 0.5)
    assert (training.learning_rate, training.get_warmup_steps(1600)) == (1e-6, 0)
    assert training.num_generations == 8 and training.generation_batch_size == 32 * 8
    a_step = training.per_device_train_batch_size * training.gradient_accumulation_steps
    assert a_step == 8, "one problem an update"


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("sdpo-reference", "sdpo"),
        ("sdpo-pass-rate", "sdpo"),
        ("sdpo-rich-feedback", "sdpo"),
        ("routed", "routed"),
        ("rlsd", "rlsd"),
        ("anchored", "anchored"),
        ("sft", "sft"),
    ],
)
def test_every_shipped_setting_is_one_that_its_algorithm_accepts(name, algorithm):
    options = parse_options(CONFIGS / f"{name}.yaml", ["--bf16", "false"])
    check_settings(algorithm, options)
    assert f"`sdpo-bench train {algorithm} --config configs/{name}.yaml`" in options.config_text


def test_an_evaluation_on_the_way_also_samples_and_says_mean_at_n(
    config_file, monkeypatch, hashed_grades, tmp_path
):
    monkeypatch.setattr("evaluator.evaluation.evaluate.grade", hashed_grades.grade)
    options = parse_options(
        config_file(
            max_steps=2,
            max_completion_length=6,
            evaluate_every=2,
            eval_dataset="embedded/test",
            eval_max_problems=3,
            eval_samples=4,
        )
    )
    said = []
    result = train("sft", options, say=said.append)
    finished = Finished(result)
    by_eval = defaultdict(list)
    for row in finished.rows["eval_results"]:
        by_eval[row["eval_id"]].append(row)
    assert {name: len(rows) for name, rows in by_eval.items()} == {
        "step-0": 3,
        "step-0-sampled": 12,
        "step-2": 3,
        "step-2-sampled": 12,
    }
    texts = [{row["completion"] for row in by_eval[f"step-{n}-sampled"]} for n in (0, 2)]
    assert len(texts[0]) > 3, "the samples of a problem differ"
    (decoding,) = {
        row["decoding"] for row in finished.rows["evals"] if row["eval_id"].endswith("sampled")
    }
    assert decoding.startswith("temperature 0.7, top_p 1, n 4")
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        stored = run_query(connection, "FROM mean_at_n ORDER BY step").records()
        curve = eval_curve(connection).records()
    for row, step in zip(stored, (0, 2), strict=True):
        shares = defaultdict(list)
        for answer in by_eval[f"step-{step}-sampled"]:
            shares[answer["task_id"]].append(answer["passed"])
        p = [sum(passes) / 4 for passes in shares.values()]
        mean = sum(p) / 3
        assert (row["n_samples"], row["n_problems"]) == (4, 3)
        assert row["mean_at_n"] == pytest.approx(mean)
        assert row["interval_high"] == pytest.approx(wilson_of_mean(p).high, abs=1e-6)
        again = math.sqrt(sum(x * (1 - x) / 3 for x in p)) / 3
        assert row["sampling_error"] == pytest.approx(again)
        assert f"mean@4 {mean:.1%}" in next(line for line in said if f"step {step}: pass@1" in line)
        assert mean in [x["pass_at_1"] for x in curve if x["decoding"] == decoding]
    assert [step for step, _ in result.evaluations] == [0, 2], "the greedy ones are the result"
