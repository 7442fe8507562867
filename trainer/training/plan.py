"""What a run is asked to do, with all checks that need no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evaluator.problems.mbpp import ProblemSet, load_problems
from trainer.options import checks
from trainer.options.config import Algorithm, BenchConfig, ConfigError, Options
from trainer.options.own import Own, load_own
from trainer.options.unread import check_use
from trainer.rollouts.vllm_server import check_vllm


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do."""

    algorithm: Algorithm
    options: Options
    problems: ProblemSet
    """To train on."""
    eval_problems: ProblemSet | None
    """To evaluate on between the steps; None where nothing is evaluated."""
    own: Own
    """What a person brought: reward and feedback."""


def make_plan(algorithm: Algorithm, options: Options) -> Plan:
    """Read the problems and refuse what cannot work.

    Raises:
        ConfigError, DatasetError, UserCodeError: with one line for the user.
    """
    bench = options.bench
    checks.check_values(options)
    check_use(algorithm, options)
    checks.check_trackers(options)
    problems = problems_of(bench, bench.dataset, bench.max_problems)
    evaluated = (bench.eval_dataset, bench.eval_max_problems)
    eval_problems = problems_of(bench, *evaluated) if bench.evaluate_every else None
    checks.check_length(options, len(problems.problems))
    checks.check_references(bench, problems.problems)
    own = load_own(bench, problems.problems[0])
    check_audit(algorithm, options)
    checks.check_settings(algorithm, options)
    check_vllm(options)
    return Plan(algorithm, options, problems, eval_problems, own)


def problems_of(bench: BenchConfig, name: str, limit: int | None = None) -> ProblemSet:
    """The problems of a set, loaded as the options say; the first `limit` of them."""
    mbpp_dir = None if bench.mbpp_dir is None else Path(bench.mbpp_dir)
    return load_problems(name, mbpp_dir=mbpp_dir, limit=limit, sandbox=bench.sandbox)


def check_audit(algorithm: Algorithm, options: Options) -> None:
    """Refuse an audit whose second derivation could not agree.

    Raises:
        ConfigError: with one line for the user.
    """
    if algorithm != "audit":
        return
    model, training = options.model, options.training
    dropout = model.lora_dropout if model.use_peft else 0.0
    is_half = model.dtype in ("bfloat16", "float16")
    for wrong, must, got in (
        (dropout > 0, "run without dropout", f"lora_dropout {dropout}; set it to 0.0"),
        (training.bf16, "run in float32", "bf16 true; set it to false"),
        (training.fp16, "run in float32", "fp16 true; set it to false"),
        (is_half, "run in float32", f"dtype {model.dtype}; set it to float32"),
        (training.use_vllm, "sample with the weights it trains", "use_vllm; set it to false"),
        (training.world_size > 1, "run in one process", f"{training.world_size}; start one"),
    ):
        if wrong:
            raise ConfigError(f"an audit must {must}, got {got}")
