"""Parts of the trainer that hold an arithmetic of their own, each on a stand-in for the rest."""

import math
from collections import defaultdict
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from trl import GRPOConfig

from trainer.adapter import BenchTrainer
from trainer.forward import UnusualHead
from trainer.losses.lean import Head, TokenTerms
from trainer.micro_batches import step_counts
from trainer.rollout_trainer import RolloutTrainer, _local_rows, filters_of, keep_float32
from trainer.teacher_prompt import Attempt, TeacherRules

ONE_PROCESS = SimpleNamespace(num_processes=1, process_index=0, gather=lambda tensor: tensor)


def test_an_answer_without_tokens_or_without_an_end_was_cut():
    trainer = SimpleNamespace(_ends=[1, 7])
    cut = [RolloutTrainer._is_truncated(trainer, ids) for ids in ([], [5], [5, 7], [1])]
    assert cut == [True, True, False, False]


def test_a_completion_goes_to_its_first_end_and_one_without_tokens_is_the_end_alone():
    trainer = SimpleNamespace(_tokenizer=SimpleNamespace(eos_token_id=1), _ends=[1, 7])
    ids, logprobs = RolloutTrainer._ended(
        trainer, [[5, 7, 9], [5, 6], []], [[-0.1, -0.2, -0.3], [-0.4, -0.5], []]
    )
    assert ids == [[5, 7], [5, 6], [1]]
    assert logprobs[:2] == [[-0.1, -0.2], [-0.4, -0.5]]
    assert len(logprobs[2]) == 1 and math.isnan(logprobs[2][0])
    assert RolloutTrainer._ended(trainer, [[5]], None) == ([[5]], None)


def test_a_process_has_the_rows_of_its_own_number():
    assert [_local_rows("abcdef", 2, process) for process in range(3)] == [
        ["a", "b"], ["c", "d"], ["e", "f"],
    ]  # fmt: skip


def test_what_narrows_sampling_is_what_was_asked_for(tmp_path):
    plain = filters_of(GRPOConfig(output_dir=tmp_path, use_cpu=True, bf16=False))
    assert (plain.top_k, plain.min_p, plain.repetition_penalty) == (0, 0.0, 1.0)
    asked = filters_of(
        GRPOConfig(
            output_dir=tmp_path,
            use_cpu=True,
            bf16=False,
            top_k=5,
            min_p=0.25,
            repetition_penalty=1.5,
            generation_kwargs={"suppress_tokens": [3]},
        )
    )
    assert (asked.top_k, asked.min_p, asked.repetition_penalty) == (5, 0.25, 1.5)
    assert asked.further["suppress_tokens"] == [3] and asked.further["disable_compile"]


def test_trained_weights_are_raised_to_float32_and_frozen_ones_stay():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)).bfloat16()
    model[0].requires_grad_(False)
    model[2].double()
    keep_float32(model)
    assert [layer.weight.dtype for layer in model] == [torch.bfloat16, torch.float32, torch.float64]


def test_the_order_of_problems_is_that_of_the_epoch_in_work():
    trainer = SimpleNamespace(
        train_dataset=range(6),
        num_generations=2,
        args=SimpleNamespace(generation_batch_size=4, seed=5),
        micro_batches_a_rollout=3,
        shuffle_dataset=True,
        state=SimpleNamespace(epoch=None),
    )
    sampler = RolloutTrainer._get_train_sampler(trainer)
    orders = []
    for epoch in (None, 0.5, 1.0, 1.9, 2.0):
        trainer.state.epoch = epoch
        orders.append(list(sampler))
    assert orders[0] == orders[1] and orders[2] == orders[3]
    assert len({tuple(order) for order in orders}) == 3
    assert len(orders[0]) == 6 * 2 * 3
    assert set(RolloutTrainer._get_train_sampler(trainer, range(2))) == {0, 1}


def prompting(**changes):
    fields = {
        "teacher": object(),
        "config": SimpleNamespace(success_threshold=1.0, teacher_rules=TeacherRules),
        "algorithm": "sdpo",
        "num_generations": 2,
        "_metrics": {"train": defaultdict(list)},
        "_max_teacher_prompt_tokens": lambda: 100,
        "_tokenize_prompts": lambda prompts: [[list(str(prompts))]],
    }
    return SimpleNamespace(**(fields | changes))


def test_a_group_is_silent_where_none_of_its_members_has_a_teacher():
    def graded(*successes):
        return [
            SimpleNamespace(
                attempt=lambda success_threshold, s=s: Attempt("answer", s, None if s else "wrong"),
                reference="r",
            )
            for s in successes
        ]

    trainer = prompting(_max_teacher_prompt_tokens=lambda: 10_000)
    rows = graded(True, False, True, True, False, False)
    rows[4:] = [
        SimpleNamespace(attempt=lambda success_threshold: Attempt("", False, None), reference="r")
    ] * 2
    prompts = [[{"role": "user", "content": "ask"}]] * 6
    found = RolloutTrainer._teacher_prompts(trainer, prompts, rows)
    assert [prompt is not None for prompt in found] == [False, True, True, True, False, False]
    metrics = trainer._metrics["train"]
    assert metrics["groups/no_teacher_signal_fraction"] == [1 / 3]
    assert metrics["teacher/success_group_fraction"] == [2 / 3]
    routed = prompting(algorithm="routed", _max_teacher_prompt_tokens=lambda: 10_000)
    found = RolloutTrainer._teacher_prompts(routed, prompts, rows)
    assert [prompt is not None for prompt in found] == [False, True, False, False, False, False]
    without = prompting(teacher=None)
    assert RolloutTrainer._teacher_prompts(without, prompts, rows) == [None] * 6


@pytest.mark.parametrize(
    ("context", "limit", "expected"), [(200, 1000, 170), (200, 50, 50), (None, 1000, 1000)]
)
def test_the_teachers_prompt_leaves_room_for_the_completion(context, limit, expected):
    model = nn.Module()
    model.config = SimpleNamespace(max_position_embeddings=context)
    trainer = SimpleNamespace(
        model=model,
        config=SimpleNamespace(max_teacher_prompt_tokens=limit),
        max_completion_length=30,
    )
    assert RolloutTrainer._max_teacher_prompt_tokens(trainer) == expected


def masked_rows():
    return {
        "completion_ids": torch.tensor([[5, 7, 0], [5, 6, 9], [7, 0, 0], [5, 9, 7]]),
        "completion_mask": torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 1, 1]]),
    }


def test_the_length_limit_masks_what_has_no_end_at_its_last_token():
    batch = masked_rows()
    RolloutTrainer._mask_truncated(SimpleNamespace(_ends=[1, 7], accelerator=ONE_PROCESS), batch)
    assert batch["completion_mask"].tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert int(batch["num_items_in_batch"]) == 5


def test_counts_are_over_the_whole_step():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    micro_batches = [
        {
            "completion_mask": mask,
            "distill_mask": torch.tensor([True, False]),
            "passing": torch.tensor([False, True]),
        },
        {
            "completion_mask": mask,
            "distill_mask": torch.tensor([True, True]),
            "passing": torch.tensor([True, True]),
        },
    ]
    found = step_counts(micro_batches, "sdpo", lambda tensor: tensor)
    assert (int(found["n_distill_tokens"]), int(found["n_distill_rows"])) == (5, 3)
    assert int(step_counts(micro_batches, "sft", lambda tensor: tensor)["n_passing_tokens"]) == 4


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
    assert BenchTrainer._of_the_step(trainer, found).item() == pytest.approx(2 * expected)


def test_two_processes_divide_a_count_since_their_gradients_are_averaged():
    trainer = SimpleNamespace(accelerator=SimpleNamespace(num_processes=2))
    assert float(BenchTrainer._per_process(trainer, torch.tensor(6.0))) == 3.0


def corrected(inputs, *, importance_clip=1.5, mismatch_clip=1.5):
    notes = {}
    trainer = SimpleNamespace(
        distillation=SimpleNamespace(importance_clip=importance_clip),
        config=SimpleNamespace(mismatch_clip=mismatch_clip),
        note=lambda name, values: notes.setdefault(name, values.tolist()),
    )
    now = torch.tensor([-1.0, -1.0, -1.0])
    terms = TokenTerms(torch.ones(3), now, now, now)
    mask = torch.tensor([[True, True], [True, False]])
    rows = {"distill_mask": torch.tensor([True, False]), **inputs}
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
        note=lambda name, values: notes.setdefault(name, values.tolist()),
        _keep_tokens=lambda terms, inputs, mask: notes.setdefault("kept", True),
        _aggregated=lambda per_token, mask, inputs: per_token[mask].sum(),
        _of_the_step=lambda loss: loss,
    )
    mask = torch.tensor([[True, True], [True, False], [True, False]])
    values = torch.tensor([1.0, 2.0, 4.0, 8.0])
    terms = TokenTerms(values, values, values, torch.tensor([0.5, 1.0, 9.0, 3.0]))
    inputs = {
        "distill_mask": torch.tensor([True, False, True]),
        "problem_weight": torch.tensor([0.5, 1.0, 2.0]),
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


def test_only_a_whole_rollout_batch_is_used_up():
    trainer = SimpleNamespace(
        args=SimpleNamespace(steps_per_generation=3, gradient_accumulation_steps=2),
        num_iterations=2,
    )
    assert RolloutTrainer.micro_batches_a_rollout.fget(trainer) == 6
    trainer.micro_batches_a_rollout = 6
    used = []
    for trainer._step in (0, 5, 6, 13):
        used.append(RolloutTrainer.n_used_rollouts.fget(trainer))
    assert used == [0, 0, 1, 2]


def test_a_position_holds_rollouts_that_are_still_in_use_and_is_taken_up_whole():
    trainer = SimpleNamespace(
        _step=4,
        micro_batches_a_rollout=3,
        _buffered_inputs=["a", "b"],
        _metrics={"train": defaultdict(list, {"loss": [1.0]})},
        _tr_loss=torch.tensor(2.5),
        _globalstep_last_logged=3,
    )
    position = RolloutTrainer.position(trainer)
    assert position == {
        "micro_batches": 4,
        "rollouts": ["a", "b"],
        "metrics": {"loss": [1.0]},
        "loss": 2.5,
        "last_logged": 3,
    }
    other = SimpleNamespace(
        _step=0,
        _buffered_inputs=None,
        _metrics={"train": {}},
        _tr_loss=0.0,
        _globalstep_last_logged=0,
    )
    RolloutTrainer.set_position(other, position)
    assert (other._step, other._buffered_inputs, other._tr_loss) == (4, ["a", "b"], 2.5)
    assert other._metrics["train"] == {"loss": [1.0]} and other._globalstep_last_logged == 3
    trainer._step = 6
    assert RolloutTrainer.position(trainer)["rollouts"] is None


def test_each_process_and_each_rollout_batch_draws_from_a_seed_of_its_own():
    seeds = {
        RolloutTrainer._rollout_seed(
            SimpleNamespace(
                n_used_rollouts=number,
                args=SimpleNamespace(seed=7),
                accelerator=SimpleNamespace(process_index=rank, num_processes=3),
            )
        )
        for number in range(4)
        for rank in range(3)
    }
    assert len(seeds) == 12


@pytest.mark.parametrize(
    ("algorithm", "expected"), [("grpo", []), ("sdpo", ["a head; the loss holds the logits of a whole micro-batch"])]
)  # fmt: skip
def test_an_unusual_head_is_said_where_a_distillation_would_read_it(
    monkeypatch, caplog, algorithm, expected
):
    def refuse(model):
        raise UnusualHead("a head")

    monkeypatch.setattr("trainer.adapter.output_head", refuse)
    trainer = SimpleNamespace(model=None, teacher=None, algorithm=algorithm)
    assert BenchTrainer._output_head(trainer) is None
    assert [record.getMessage() for record in caplog.records] == expected


def test_a_mixed_teacher_shares_the_head_unless_it_is_trained(monkeypatch):
    for is_trained, mixes, has_head in (
        (True, True, False),
        (True, False, True),
        (False, True, True),
    ):
        head = Head(torch.zeros(1, 1, requires_grad=is_trained), None)
        monkeypatch.setattr("trainer.adapter.output_head", lambda model, head=head: head)
        teacher = SimpleNamespace(mixes_logits=mixes)
        trainer = SimpleNamespace(model=None, teacher=teacher, algorithm="sdpo")
        assert (BenchTrainer._output_head(trainer) is head) == has_head


@pytest.mark.parametrize(
    ("problem_weight", "expected"), [("none", [1.0, 1.0]), ("pass_rate", [0.0, 0.0])]
)
def test_a_processes_rows_have_their_passes_and_their_problems_weights(problem_weight, expected):
    # one of the first problem's two members passes, none of the second's
    successes = [True, False, False, False]
    graded = [
        SimpleNamespace(attempt=lambda success_threshold, s=s: Attempt("", s, None))
        for s in successes
    ]
    trainer = SimpleNamespace(
        grader=SimpleNamespace(graded=graded[2:]),
        config=SimpleNamespace(success_threshold=1.0, problem_weight=problem_weight),
        num_generations=2,
        accelerator=SimpleNamespace(process_index=1),
    )
    batch = {"completion_ids": torch.zeros(2, 3)}
    RolloutTrainer._add_grades(trainer, batch, graded)
    assert batch["passing"].tolist() == [False, False]
    assert batch["problem_weight"].tolist() == expected
    trainer.accelerator.process_index = 0
    RolloutTrainer._add_grades(trainer, batch, graded)
    assert batch["passing"].tolist() == [True, False]
    assert batch["problem_weight"].tolist() == (
        [1.0, 1.0] if problem_weight == "none" else [2.0, 2.0]
    )
