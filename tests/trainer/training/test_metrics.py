"""What a step says of itself is of the whole step, however it was cut into micro-batches."""

import random

import pytest

from tests.trainer.finished import Finished
from trainer.options.config import parse_options
from trainer.step.rollout_trainer import RolloutTrainer
from trainer.training.train import train

SETTINGS = {
    "hybrid": {
        "mask_truncated_completions": True,
        "num_iterations": 2,
        "beta": 0.1,
        "problem_weight": "pass_rate",
    },
    "sdpo": {"aggregation": "sequence_mean", "num_iterations": 3},
    "grpo": {"num_iterations": 2, "epsilon": 0.001, "loss_type": "grpo"},
    "rlsd": {"loss_type": "cispo", "epsilon_high": 0.001, "scale_rewards": "batch"},
    "sft": {"mask_truncated_completions": True},
}


def uneven(self, prompt_ids, *args, **kwargs):
    """Completions of no token to the limit, by prompt and place; the longest have no end."""
    completions = []
    for place, ids in enumerate(prompt_ids):
        generator = random.Random(f"{list(ids)} {place % self.num_generations}")
        n = generator.choice([0, 1, 3, 7, self.max_completion_length])
        row = [generator.randrange(33, 90) for _ in range(n)]
        completions.append(
            row + [self.processing_class.eos_token_id] * (n < self.max_completion_length)
        )
    return completions, None


@pytest.mark.parametrize("algorithm", [pytest.param(a, marks=pytest.mark.slow) for a in SETTINGS])
def test_cutting_a_step_of_uneven_completions_changes_none_of_its_metrics(
    config_file, hashed_grades, monkeypatch, algorithm
):
    monkeypatch.setattr(RolloutTrainer, "_generate_single_turn", uneven)
    metrics = []
    for size in (8, 1):
        changes = {
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": 8 // size,
            **SETTINGS[algorithm],
        }
        options = parse_options(config_file(max_steps=3, **changes))
        finished = Finished(train(algorithm, options, say=lambda _: None))
        metrics.append({(r["step"], r["name"]): r["value"] for r in finished.rows["metrics"]})
    whole, cut = metrics
    assert set(whole) == set(cut) and len({step for step, _ in whole}) == 3
    for key, value in whole.items():
        _, name = key
        # the extremes of a micro-batch's rows are averaged over micro-batches, as TRL does it
        of_the_machine = name.startswith(("time/", "memory/")) or name == "step_time"
        if not of_the_machine and not name.endswith(("_min", "_max")):
            assert cut[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key
