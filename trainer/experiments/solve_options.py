"""What `solve` is asked to try, and the training configuration that it makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis.task_ids import TaskId
from trainer.options.config import ConfigError, Options, parse_options

METHODS = ("best-of-n", "multi-turn", "sdpo")


@dataclass(frozen=True)
class SolveOptions:
    """What to try on which problems."""

    config: Path
    """Training configuration: model, sampling and SDPO's options."""
    dataset: str
    task_ids: tuple[TaskId, ...]
    budget: int
    """Completions of each problem, for each method."""
    overrides: tuple[str, ...] = ()
    """Further options of the configuration, as on the command line of `train`."""
    turns: int = 8
    """Answers in one conversation of the multi-turn method."""
    seeds: tuple[int, ...] = (42,)
    methods: tuple[str, ...] = METHODS
    runs_dir: Path = Path("runs")


def training_options(options: SolveOptions, task_id: TaskId, seed: int) -> Options:
    """Return the configuration of SDPO on one problem: one group a step, as many steps as the budget has.

    Raises:
        ConfigError: the budget is no multiple of the group, or an option is wrong.
    """
    given = parse_options(options.config, options.overrides)
    group = given.training.num_generations
    if options.budget % group or options.budget < group:
        raise ConfigError(
            f"--budget must be a multiple of num_generations {group}, got {options.budget}; change one"
        )
    micro = min(given.training.per_device_train_batch_size, group)
    if group % micro:
        micro = group
    fixed = {
        "dataset": f"{options.dataset}[{task_id}]",
        "max_steps": options.budget // group,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": group // micro,
        "evaluate_every": 0,
        # `solve` has checked the grading of these very problems; a model's pass@1 on others, asked
        # before each of them again, would cost more than the problem.
        "allow_uncalibrated": True,
        "save_strategy": "no",
        "seed": seed,
        "label": f"solve-{task_id}".replace("/", "-"),
        "runs_dir": str(options.runs_dir),
    }
    words = [word for name, value in fixed.items() for word in (f"--{name}", str(value))]
    return parse_options(options.config, [*options.overrides, *words])
