"""The loss and the gradient of each setting that people compare, against a second derivation."""

import math
from collections import defaultdict

import pytest
import torch

from tests.trainer.finished import passed
from tests.trainer.losses.oracles import imitation_oracle, policy_oracle, scaled_advantage_oracle
from trainer.audit.second_loss import Oracle, oracle
from trainer.step.forward import completion_logits
from trainer.step.loss_trainer import BenchTrainer, rows_of

GRADIENT = 2e-4
"""Relative to the largest entry: float32 through two layers, against logits of a pass apart."""


TAU, TOP_K = 0.7, 10


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
            assert float((ours - theirs).abs().max()) <= GRADIENT * max(scale, 1e-4)
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
        assert watch.n_checked == n_micro_batches and watch.largest > 1e-4
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
