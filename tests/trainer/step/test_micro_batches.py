"""A step's gradient does not depend on how its rows are arranged and trimmed."""

from types import SimpleNamespace

import pytest
import torch
from transformers import TrainerCallback

import trainer.step.forward
from trainer.options.config import parse_options
from trainer.step import batch_trainer
from trainer.step.micro_batches import by_group, step_counts, trimmed, with_groups
from trainer.step.rollout_trainer import RolloutTrainer
from trainer.training.train import train

RELATIVE = 1e-7
"""Of the largest entry of a step's gradient, in float64 but for Llama's norms."""


def micro_batch(prompts, masks, extra):
    ids = torch.tensor(prompts)
    mask = torch.tensor(masks)
    return {
        "prompt_ids": ids,
        "prompt_mask": (ids != 0).long(),
        "completion_ids": torch.arange(mask.numel()).view_as(mask),
        "completion_mask": mask,
        "old_per_token_logps": torch.arange(mask.numel()).view_as(mask) / 7,
        "advantages": torch.tensor(extra),
        "num_items_in_batch": torch.tensor(9),
    }


def test_columns_that_are_padding_in_every_row_go_and_no_others():
    batch = micro_batch([[0, 0, 5, 6], [0, 7, 8, 9]], [[1, 1, 0, 0], [1, 0, 0, 0]], [0.0, 1.0])
    found = trimmed(batch)
    assert found["prompt_ids"].tolist() == [[0, 5, 6], [7, 8, 9]]
    assert found["prompt_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert found["completion_ids"].tolist() == [[0, 1], [4, 5]]
    assert found["completion_mask"].tolist() == [[1, 1], [1, 0]]
    assert torch.equal(found["old_per_token_logps"], batch["old_per_token_logps"][:, :2])
    assert found["advantages"] is batch["advantages"]
    assert batch["prompt_ids"].shape == (2, 4), "what is kept for another step stays whole"


def test_a_micro_batch_of_masked_completions_keeps_a_column():
    found = trimmed(micro_batch([[5], [6]], [[0, 0], [0, 0]], [0.0, 1.0]))
    assert found["completion_mask"].shape == (2, 1)


def test_rows_of_a_group_come_together_within_their_part_and_none_is_lost():
    batches = [
        micro_batch([[5, 6], [7, 8]], [[1], [1]], [0.0, 1.0]),
        micro_batch([[7, 8], [5, 6]], [[1], [1]], [2.0, 3.0]),
        micro_batch([[7, 8], [5, 6]], [[1], [1]], [4.0, 5.0]),
    ]
    found = by_group(batches, [0, 0, 1])
    assert [b["advantages"].tolist() for b in found] == [[0.0, 3.0], [1.0, 2.0], [4.0, 5.0]]
    assert [b["prompt_ids"].tolist() for b in found[:2]] == [[[5, 6]] * 2, [[7, 8]] * 2]
    assert all(int(b["num_items_in_batch"]) == 9 for b in found)


def test_a_prompt_as_wide_as_the_completions_is_not_cut_like_them():
    batch = micro_batch([[7, 5, 6], [0, 8, 9]], [[1, 1, 0], [1, 0, 0]], [0.0, 1.0])
    batch |= {
        "teacher_prompt_ids": batch["prompt_ids"],
        "teacher_prompt_mask": batch["prompt_mask"],
    }
    found = trimmed(batch)
    for name in ("prompt", "teacher_prompt"):
        assert found[f"{name}_ids"].tolist() == [[7, 5, 6], [0, 8, 9]]
        assert found[f"{name}_mask"].tolist() == [[1, 1, 1], [0, 1, 1]]
    assert found["completion_mask"].shape == (2, 2)


def test_a_teachers_prompts_lose_the_padding_of_all_rows():
    batch = micro_batch([[7, 5], [8, 9]], [[1], [1]], [0.0, 1.0])
    batch["teacher_prompt_ids"] = torch.tensor([[0, 0, 4, 5], [0, 0, 0, 6]])
    batch["teacher_prompt_mask"] = (batch["teacher_prompt_ids"] != 0).long()
    found = trimmed(batch)
    assert found["teacher_prompt_ids"].tolist() == [[4, 5], [0, 6]]
    assert found["teacher_prompt_mask"].tolist() == [[1, 1], [0, 1]]


def test_prompts_that_differ_in_their_padding_alone_are_of_two_groups():
    batch = micro_batch([[0, 5], [0, 5], [0, 5]], [[1]] * 3, [0.0] * 3)
    batch["prompt_mask"] = torch.tensor([[0, 1], [1, 1], [0, 1]])
    assert with_groups(batch)["group"].tolist() == [0, 1, 0]


def adding(algorithm, **changes):
    plain = {
        "loss_type": "dapo", "top_entropy_quantile": 1.0, "_entropy_bonus_enabled": False, "aux_loss_enabled": False,
    }  # fmt: skip
    return RolloutTrainer._adds_up(SimpleNamespace(algorithm=algorithm, **plain | changes))


NOT_SUMS = [
    {"loss_type": "bnpo"}, {"top_entropy_quantile": 0.5}, {"_entropy_bonus_enabled": True}, {"aux_loss_enabled": True},
]  # fmt: skip


@pytest.mark.parametrize("algorithm", ["sdpo", "audit", "sft", "grpo", "hybrid", "routed"])
def test_a_policys_loss_that_divides_by_a_micro_batchs_own_counts_is_no_sum(algorithm):
    assert adding(algorithm)
    of_ours_alone = algorithm in ("sdpo", "audit", "sft")
    assert [adding(algorithm, **changes) for changes in NOT_SUMS] == [of_ours_alone] * 4


@pytest.mark.parametrize("way", ["sum", "no sum", "no sharing", "width"])
def test_rows_move_within_the_pass_of_their_rollout_batch_where_that_changes_nothing(
    monkeypatch, way
):
    monkeypatch.setattr(batch_trainer, "can_share", lambda model: way != "no sharing")
    trainer = SimpleNamespace(
        pad_to_multiple_of=8 if way == "width" else None,
        args=SimpleNamespace(steps_per_generation=2),
        _adds_up=lambda: way != "no sum",
        model=None,
        _step=3,
    )
    rows = [[[0, 5, 6], [0, 7, 8]], [[0, 7, 8], [0, 5, 6]], [[0, 5, 6], [0, 7, 8]]]
    batches = [micro_batch(r, [[1], [1]], [2.0 * i, 2.0 * i + 1]) for i, r in enumerate(rows)]
    found = RolloutTrainer._arranged(trainer, batches)
    # the first ends the pass over one rollout batch, the other two are of the next
    order = [[0.0, 1.0], [2.0, 5.0], [3.0, 4.0]] if way == "sum" else [[0, 1], [2, 3], [4, 5]]
    assert [b["advantages"].tolist() for b in found] == order
    if way == "width":
        assert found is batches
    else:
        assert all(b["prompt_ids"].shape == (2, 2) for b in found)
        assert found[1]["group"].tolist() == ([0, 0] if way == "sum" else [0, 1])


def test_counts_are_summed_over_the_processes():
    batch = {"completion_mask": torch.tensor([[1, 1, 0], [1, 0, 0]])}
    batch |= {"distill_mask": torch.tensor([True, True]), "passing": torch.tensor([True, False])}

    def gather(counts):
        return torch.cat([counts.view(-1), 10 * counts.view(-1)])

    found = step_counts([batch], "sdpo", gather)
    assert (int(found["n_distill_tokens"]), int(found["n_distill_rows"])) == (33, 22)
    assert int(step_counts([batch], "sft", gather)["n_passing_tokens"]) == 22
    assert step_counts([batch], "grpo", gather) == {"n_tokens": 33}


class Gradients(TrainerCallback):
    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append([p.grad.clone() for p in model.parameters() if p.requires_grad])


@pytest.fixture
def gradient(config_file, hashed_grades):
    """The first step's gradient of a run, which samples the same rows however they are arranged."""

    def go(algorithm, **changes):
        kept = Gradients()

        def prepare(trainer):
            # student and teacher of a random model differ by little more than float32's rounding
            trainer.model.double()
            trainer.add_callback(kept)

        # long enough that some rows end before others
        options = {"max_steps": 1, "max_grad_norm": 0.0, "max_completion_length": 60, **changes}
        train(algorithm, parse_options(config_file(**options)), say=lambda _: None, prepare=prepare)
        return kept.steps[0]

    return go


SETTINGS = [
    ("hybrid", {}),
    *(
        pytest.param(*setting, marks=pytest.mark.slow)
        for setting in [
            ("sdpo", {}),
            ("grpo", {}),
            ("sdpo", {"aggregation": "sequence_sum_norm"}),
            ("sdpo", {"aggregation": "sequence_mean"}),
            ("sdpo", {"aggregation": "sequence_sum"}),
            ("sdpo", {"aggregation": "reference"}),
            ("sdpo", {"teacher": "trust_region"}),
            ("sdpo", {"steps_per_generation": 4}),
            ("sdpo", {"steps_per_generation": 1}),
            ("sdpo", {"support": "full"}),
            ("routed", {}),
            ("rlsd", {}),
            ("anchored", {"teacher_context": "nothing"}),
            ("sft", {}),
            ("grpo", {"loss_type": "bnpo"}),
            ("grpo", {"loss_type": "grpo"}),
            ("grpo", {"loss_type": "dr_grpo"}),
            ("grpo", {"beta": 0.1}),
            ("grpo", {"entropy_coef": 0.1}),
            ("grpo", {"top_entropy_quantile": 0.5}),
            ("grpo", {"importance_sampling_level": "sequence"}),
            ("sdpo", {"use_peft": False}),
            ("hybrid", {"mask_truncated_completions": True}),
        ]
    ),
]


@pytest.mark.parametrize(("algorithm", "changes"), SETTINGS)
def test_a_steps_gradient_is_that_of_whole_rows_where_they_were_drawn(
    gradient, monkeypatch, algorithm, changes
):
    ours = gradient(algorithm, **changes)
    monkeypatch.setattr(RolloutTrainer, "_arranged", lambda self, micro_batches: micro_batches)
    monkeypatch.setattr("trainer.step.forward.shared_inputs", lambda *args: None)
    monkeypatch.setattr("evaluator.models.shared_prompt.prefilled", lambda *args: {})
    plain = gradient(algorithm, **changes)
    largest = max(float(g.abs().max()) for g in plain)
    assert largest > 1e-6
    for one, other in zip(ours, plain, strict=True):
        assert float((one - other).abs().max()) <= RELATIVE * largest


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["sdpo", "grpo"])
@pytest.mark.parametrize("use_peft", [True, False])
def test_in_bfloat16_arithmetic_shared_and_new_keys_have_one_format(
    config_file, monkeypatch, hashed_grades, algorithm, use_peft
):
    computed = []
    shared_inputs = trainer.step.forward.shared_inputs
    monkeypatch.setattr(
        "trainer.step.forward.shared_inputs",
        lambda *a: computed.append(shared_inputs(*a)) or computed[-1],
    )
    options = config_file(max_steps=1, bf16=True, use_peft=use_peft)
    train(algorithm, parse_options(options), say=lambda _: None)
    assert computed and all(inputs is not None for inputs in computed)
