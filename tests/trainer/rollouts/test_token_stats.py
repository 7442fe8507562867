"""Tokens of a few completions, as student and teacher see them."""

import json
import statistics
from collections import defaultdict

import pytest
import torch

from analysis.journal.lines import scan
from trainer.options.config import parse_options
from trainer.rollouts.token_stats import N_COMPLETIONS, chosen_rows, is_kept, token_records
from trainer.training.train import train


@pytest.fixture
def rows_of(config_file, hashed_grades):

    def go(algorithm, **changes):
        result = train(algorithm, parse_options(config_file(**changes)), say=lambda _: None)
        rows = defaultdict(list)
        for segment in sorted(result.run_dir.glob("segment-*.jsonl")):
            for line in scan(segment):
                rows[line.table].append(json.loads(line.row))
        return rows

    return go


def test_the_first_step_and_every_nth_are_kept():
    assert [step for step in range(1, 31) if is_kept(step, every=10)] == [1, 10, 20, 30]
    assert not any(is_kept(step, every=0) for step in range(1, 31))


def test_the_first_completions_with_a_teacher_are_chosen():
    mask = torch.tensor([False, True, False, True, True, True])
    assert chosen_rows(mask).tolist() == [-1, 1, -1, 3, -1, -1]
    assert chosen_rows(torch.zeros(3, dtype=torch.bool)).tolist() == [-1, -1, -1]


def test_a_row_is_found_by_its_place_and_what_is_no_token_is_left_out():
    records = list(
        token_records(
            torch.tensor([-1, 6]),
            torch.tensor([[True, True, True], [True, True, False]]),
            [["x", "x", "x"], ["a", "b", "pad"]],
            student_logprobs=torch.tensor([[-9.0, -9, -9], [-1.0, -2, -9]]),
            teacher_logprobs=torch.tensor([[-9.0, -9, -9], [-3.0, -4, -9]]),
            divergence=torch.tensor([[9.0, 9, 9], [0.25, 0.5, 9]]),
            step=5,
            group_size=4,
        )
    )
    kept = [
        (
            r.group_index,
            r.member_index,
            r.token_index,
            r.token,
            r.student_logprob,
            r.teacher_logprob,
        )
        for r in records
    ]
    assert kept == [(1, 2, 0, "a", -1.0, -3.0), (1, 2, 1, "b", -2.0, -4.0)]
    assert [(r.step, r.divergence) for r in records] == [(5, 0.25), (5, 0.5)]


@pytest.mark.parametrize("micro_batch", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_a_run_keeps_tokens_that_agree_with_its_rollouts_and_its_metrics(rows_of, micro_batch):
    """TRL shuffles a rollout batch and cuts it; the rows are found all the same."""
    rows = rows_of(
        "sdpo",
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=8 // micro_batch,
        token_stats_every=1,
    )
    rollouts = {
        (r["step"], r["group_index"], r["member_index"]): r
        for r in rows["rollouts"]
        if r["teacher_prompt"] is not None
    }
    tokens = defaultdict(list)
    for row in rows["token_stats"]:
        tokens[row["step"], row["group_index"], row["member_index"]].append(row)
    for step in (1, 2):
        taught = sorted(key for key in rollouts if key[0] == step)
        assert sorted(key for key in tokens if key[0] == step) == taught[:N_COMPLETIONS]
    for key, mine in tokens.items():
        assert [row["token_index"] for row in mine] == list(range(len(mine)))
        assert len(mine) == rollouts[key]["n_completion_tokens"]
        text = "".join(row["token"] for row in mine)
        if "\ufffd" not in text:  # half of a character is no text of its own
            assert text.startswith(rollouts[key]["completion"])
        assert all(row["student_logprob"] <= 0 and row["teacher_logprob"] <= 0 for row in mine)
    means = [row["value"] for row in rows["metrics"] if row["name"] == "distill/per_token"]
    assert min(means) > 0
    kept = [row["divergence"] for mine in tokens.values() for row in mine]
    assert statistics.mean(kept) > 0


def test_no_tokens_are_kept_of_grpo_or_where_it_is_switched_off(rows_of):
    assert rows_of("grpo", token_stats_every=1)["token_stats"] == []


def test_it_can_be_switched_off(rows_of):
    assert rows_of("sdpo", token_stats_every=0)["token_stats"] == []
