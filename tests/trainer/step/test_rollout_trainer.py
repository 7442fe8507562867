"""Parts of the rollout trainer that hold an arithmetic of their own, each on a stand-in for the rest."""

import math
from collections import defaultdict
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GenerationConfig
from trl import GRPOConfig

from trainer.rollouts.full_precision import keep_float32
from trainer.rollouts.settings import filters_of
from trainer.step.batch_trainer import local_rows
from trainer.step.micro_batches import step_counts
from trainer.step.rollout_trainer import RolloutTrainer
from trainer.teacher.prompt import Attempt, TeacherRules

ONE_PROCESS = SimpleNamespace(num_processes=1, process_index=0, gather=lambda tensor: tensor)


def test_an_answer_without_tokens_or_without_an_end_was_cut():
    trainer = SimpleNamespace(_ends=[1, 7], _marks=(), _tokenizer=None)
    cut = [RolloutTrainer._is_truncated(trainer, ids) for ids in ([], [5], [5, 7], [1])]
    assert cut == [True, True, False, False]


def test_a_completion_goes_to_its_first_end_and_one_without_tokens_is_the_end_alone():
    trainer = SimpleNamespace(_tokenizer=SimpleNamespace(eos_token_id=1), _ends=[1, 7], _marks=())
    ids, logprobs = RolloutTrainer._ended(
        trainer, [[5, 7, 9], [5, 6], []], [[-0.1, -0.2, -0.3], [-0.4, -0.5], []]
    )
    assert ids == [[5, 7], [5, 6], [1]]
    assert logprobs[:2] == [[-0.1, -0.2], [-0.4, -0.5]]
    assert len(logprobs[2]) == 1 and math.isnan(logprobs[2][0])
    assert RolloutTrainer._ended(trainer, [[5]], None) == ([[5]], None)


def test_a_process_has_the_rows_of_its_own_number():
    assert [local_rows("abcdef", 2, process) for process in range(3)] == [
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
    trainer = SimpleNamespace(
        accelerator=ONE_PROCESS, _is_truncated=lambda ids: not ids or ids[-1] not in (1, 7)
    )
    RolloutTrainer._mask_truncated(trainer, batch)
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
        state=SimpleNamespace(global_step=5),
    )
    RolloutTrainer.set_position(other, position)
    assert (other._step, other._buffered_inputs, other._tr_loss) == (4, ["a", "b"], 2.5)
    assert other._metrics["train"] == {"loss": [1.0]} and other._globalstep_last_logged == 3
    assert other._timed_from == 5, "the clock began anew"
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


def test_a_completion_that_a_mark_ended_was_not_cut():
    tokenizer = SimpleNamespace(decode=lambda ids: "".join(map(chr, ids)))
    trainer = SimpleNamespace(_ends=[1], _marks=("[DONE]",), _tokenizer=tokenizer)
    cut = [RolloutTrainer._is_truncated(trainer, list(map(ord, t))) for t in ("x[DONE]", "x[DON")]
    assert cut == [False, True]


def test_sampling_tells_after_each_token_how_far_it_is(tiny_folder):
    model, told = AutoModelForCausalLM.from_pretrained(tiny_folder), []
    trainer = SimpleNamespace(
        use_vllm=False, model=model, _ends=[1], show_ended=told.append,
        adapter_merged=nullcontext, generation_config=model.generation_config,
    )  # fmt: skip
    ids = torch.tensor([[5, 6], [7, 8]])
    with RolloutTrainer.as_sampler(trainer):
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=GenerationConfig(max_new_tokens=3, do_sample=False),
        )
    assert told == ["2 completions"] * 3
