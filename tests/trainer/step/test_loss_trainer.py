"""The loss's own arithmetic, each part on a stand-in for the rest of the trainer."""

import math
from collections import defaultdict
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainer.losses.chunked import Head, TokenTerms
from trainer.step.forward import UnusualHead
from trainer.step.loss_trainer import BenchTrainer

ONE_PROCESS = SimpleNamespace(num_processes=1, process_index=0, gather=lambda tensor: tensor)


PER_TOKEN = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]])
MASK = torch.tensor([[True, True, True], [True, False, False]])


@pytest.mark.parametrize(
    ("aggregation", "algorithm", "expected"),
    [
        ("token_mean", "sdpo", 10 / 8),
        ("token_mean", "routed", 10 / (24 * 2 / 3)),
        ("sequence_mean", "sdpo", (2 + 4) / 5),
        ("sequence_sum", "sdpo", 10 / 5),
        ("sequence_sum_norm", "sdpo", 10 / 16),
        ("all_sequences_mean", "sdpo", (2 + 4) / 2 / 2),
    ],
)
def test_a_micro_batchs_part_is_divided_by_what_the_step_counts(aggregation, algorithm, expected):
    """Of a step of two micro-batches: 8 tokens and 5 rows are taught, of 24 in three of them."""
    trainer = SimpleNamespace(
        algorithm=algorithm,
        config=SimpleNamespace(aggregation=aggregation),
        accelerator=ONE_PROCESS,
        args=SimpleNamespace(steps_per_generation=3),
        current_gradient_accumulation_steps=2,
        max_completion_length=16,
    )
    trainer._per_process = lambda count: BenchTrainer._per_process(trainer, count)
    counts = {"n_distill_tokens": 8.0, "n_distill_rows": 5.0, "num_items_in_batch": 24.0}
    inputs = {name: torch.tensor(count) for name, count in counts.items()}
    found = BenchTrainer._aggregated(trainer, PER_TOKEN, MASK, inputs)
    assert found.item() == pytest.approx(expected)


def test_two_processes_divide_a_count_since_their_gradients_are_averaged():
    trainer = SimpleNamespace(accelerator=SimpleNamespace(num_processes=2))
    assert float(BenchTrainer._per_process(trainer, torch.tensor(6.0))) == 3.0


@pytest.mark.parametrize("n_processes", [1, 2])
def test_what_is_noted_of_micro_batches_averages_to_the_step_of_all_processes(n_processes):
    """Values 1 to 6 in parts of 1, 3 and 2 over three micro-batches; a second process has the same with 10 more."""
    metrics = {"train": defaultdict(list)}
    parts = [torch.tensor(part) for part in ([1.0], [2.0, 3.0, 4.0], [5.0, 6.0])]
    further = iter([11.0, 12.0 + 13 + 14, 15.0 + 16, 0.0])

    def gather(value):
        return value if n_processes == 1 else torch.stack([value, torch.tensor(next(further))])

    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(gather=gather),
        current_gradient_accumulation_steps=3,
        _metrics=metrics,
    )
    trainer._note_part = lambda name, part: BenchTrainer._note_part(trainer, name, part)
    for part in parts:
        BenchTrainer.note(trainer, "a", part, n_of_step=torch.tensor(6 * n_processes))
    of_a_token = metrics["train"]["a"]
    assert sum(of_a_token) / len(of_a_token) == pytest.approx(3.5 + 5 * (n_processes - 1))

    BenchTrainer.note(trainer, "none", parts[0][:0], n_of_step=torch.tensor(0))
    BenchTrainer.note_loss(trainer, "loss", torch.tensor(2.0))
    assert metrics["train"]["loss"] == [pytest.approx(6.0 / n_processes)]
    assert set(metrics["train"]) == {"a", "loss"}


def corrected(inputs, *, importance_clip=1.5, mismatch_clip=1.5):
    notes = {}
    trainer = SimpleNamespace(
        distillation=SimpleNamespace(importance_clip=importance_clip),
        config=SimpleNamespace(mismatch_clip=mismatch_clip),
        note=lambda name, values, n_of_step: notes.setdefault(name, values.tolist()),
    )
    now = torch.tensor([-1.0, -1.0, -1.0])
    terms = TokenTerms(torch.ones(3), now, now, now)
    mask = torch.tensor([[True, True], [True, False]])
    rows = {
        "distill_mask": torch.tensor([True, False]),
        "n_distill_tokens": torch.tensor(2),
        **inputs,
    }
    return BenchTrainer._corrected(trainer, terms, rows, mask), notes


def test_a_sampler_that_computes_otherwise_is_corrected_for_by_the_policy_that_sampled():
    sampler = torch.tensor([[-1.2, -9.0], [float("nan"), 0.0]])
    terms, notes = corrected({"sampling_per_token_logps": sampler})
    assert terms.distill.tolist() == pytest.approx([math.exp(0.2), 1.5, 1.0])
    assert notes == {"distill/mismatch_clipped_fraction": [0.0, 1.0]}

    old = torch.tensor([[-1.1, -9.0], [-1.0, 0.0]])
    terms, notes = corrected({"sampling_per_token_logps": sampler, "old_per_token_logps": old})
    # the second token's policy of then agrees with its sampler, however far the weights have moved since
    assert terms.distill.tolist() == pytest.approx([math.exp(0.1), 1.0, 1.0])
    assert notes["distill/importance_clipped_fraction"] == [0.0, 1.0]
    assert notes["distill/mismatch_clipped_fraction"] == [0.0, 0.0]


def test_without_a_clip_or_a_sampler_nothing_is_corrected():
    sampler = torch.tensor([[-1.2, -9.0], [-1.0, 0.0]])
    for terms, notes in (
        corrected({"sampling_per_token_logps": sampler}, mismatch_clip=None),
        corrected({}),
        corrected({"old_per_token_logps": sampler}, importance_clip=None),
    ):
        assert terms.distill.tolist() == [1.0, 1.0, 1.0] and notes == {}


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [("sdpo", 2.0), ("audit", 2.0), ("hybrid", 4.0), ("routed", 12.0), ("rlsd", 10.0), ("anchored", 11.0)],
)  # fmt: skip
def test_an_algorithm_puts_the_policys_loss_of_10_and_the_distillations_of_2_together(
    algorithm, expected
):
    trainer = SimpleNamespace(
        algorithm=algorithm,
        config=SimpleNamespace(hybrid_lambda=0.25, anchor_weight=0.5),
        _token_terms=lambda model, inputs, mask: None,
        _distill_loss=lambda terms, inputs, mask: 2.0,
        _policy_loss=lambda model, inputs, terms, mask: 10.0,
    )
    inputs = {"completion_mask": torch.ones(1, 1)}
    assert BenchTrainer._compute_loss(trainer, None, inputs) == expected


def test_the_distillation_is_of_taught_rows_each_by_its_problems_weight():
    notes = {}
    trainer = SimpleNamespace(
        algorithm="sdpo",
        note=lambda name, values, n_of_step: notes.setdefault(name, values.tolist()),
        _keep_tokens=lambda terms, inputs, mask: notes.setdefault("kept", True),
        _aggregated=lambda per_token, mask, inputs: per_token[mask].sum(),
        note_loss=lambda name, loss: notes.setdefault(name, loss.item()),
    )
    mask = torch.tensor([[True, True], [True, False], [True, False]])
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    terms = TokenTerms(values, values, values, torch.tensor([0.5, 1.0, 9.0, 3.0]))
    inputs = {
        "distill_mask": torch.tensor([True, False, True]),
        "problem_weight": torch.tensor([0.5, 1.0, 2.0]),
        "n_tokens": torch.tensor(4),
        "n_distill_tokens": torch.tensor(3),
    }
    loss = BenchTrainer._distill_loss(trainer, terms, inputs, mask)
    assert loss.item() == 0.5 * (1 + 2) + 2 * 8
    assert notes == {
        "distill/per_token": [1.0, 2.0, 8.0],
        "distill/kl_per_token": [0.5, 1.0, 5.0],
        "kept": True,
        "entropy": [1.0, 2.0, 4.0, 8.0],
        "distill/loss": loss.item(),
    }


def test_a_teachers_forward_has_no_dropout_and_no_gradient_and_leaves_the_mode():
    model = nn.Sequential(nn.Dropout(0.5)).train()
    phases = []
    trainer = SimpleNamespace(
        teacher="teacher", clock=lambda name: phases.append(name) or nullcontext()
    )
    with BenchTrainer.as_teacher(trainer, model) as its:
        assert (its, model.training, torch.is_grad_enabled()) == ("teacher", False, False)
    assert model.training and phases == ["teacher"]


@pytest.mark.parametrize(
    ("algorithm", "expected"), [("grpo", []), ("sdpo", ["a head; the loss holds the logits of a whole micro-batch"])]
)  # fmt: skip
def test_an_unusual_head_is_said_where_a_distillation_would_read_it(
    monkeypatch, logged, algorithm, expected
):
    def refuse(model):
        raise UnusualHead("a head")

    monkeypatch.setattr("trainer.step.loss_trainer.output_head", refuse)
    trainer = SimpleNamespace(model=None, teacher=None, algorithm=algorithm)
    assert BenchTrainer._output_head(trainer) is None
    assert logged == expected


def test_a_mixed_teacher_shares_the_head_unless_it_is_trained(monkeypatch):
    for is_trained, mixes, has_head in (
        (True, True, False),
        (True, False, True),
        (False, True, True),
    ):
        head = Head(torch.zeros(1, 1, requires_grad=is_trained), None)
        monkeypatch.setattr("trainer.step.loss_trainer.output_head", lambda model, head=head: head)
        teacher = SimpleNamespace(mixes_logits=mixes)
        trainer = SimpleNamespace(model=None, teacher=teacher, algorithm="sdpo")
        assert (BenchTrainer._output_head(trainer) is head) == has_head
