"""Runs whose steps, rollout batches, epochs or processes do not fall together, killed at 20 random moments each."""

import pytest

from tests.scale import scaled
from tests.trainer.killing import (
    check_kills,
    resume_in_a_fork,
    resume_in_two_forks,
    train_in_a_fork,
    train_in_two_forks,
)

SAVING = {
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 2,
    "max_completion_length": 6,
    "logging_steps": 2,
    "lora_dropout": 0.1,
}


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("changes", "train", "resume"),
    [
        (
            {"max_steps": 5, "num_iterations": 2, "steps_per_generation": 3},
            train_in_a_fork,
            resume_in_a_fork,
        ),
        (
            {"max_steps": -1, "num_train_epochs": 3, "max_problems": 4},
            train_in_a_fork,
            resume_in_a_fork,
        ),
        (
            {"max_steps": 4, "gradient_accumulation_steps": 1},
            train_in_two_forks,
            resume_in_two_forks,
        ),
    ],
    ids=["off-policy", "epochs", "two processes"],
)
def test_a_run_killed_at_any_moment_ends_bit_for_bit_as_if_it_had_not_been(
    config_file, tmp_path, changes, train, resume
):
    def start(runs):
        return train("sdpo", config_file(**SAVING, **changes, runs_dir=str(runs)), [])

    check_kills(start, tmp_path, n_kills=scaled(20), resume=resume)
