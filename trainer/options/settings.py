"""Refuses options that would turn an algorithm into something else than its name says."""

from __future__ import annotations

from dataclasses import fields

from trainer.options.config import Algorithm, BenchConfig, ConfigError, Options

_ONLY_IN: dict[str, tuple[Algorithm, ...]] = {
    "hybrid_lambda": ("hybrid",),
    "problem_weight": ("sdpo", "hybrid", "audit"),
    "advantage_clip": ("rlsd",),
    "advantage_mix": ("rlsd",),
    "advantage_mix_steps": ("rlsd",),
    "anchor_weight": ("anchored",),
}
"""Options that are read by some algorithms alone. Those of every teacher and distillation loss are not among them: a
file that GRPO and SDPO share may hold them."""


def check_settings(algorithm: Algorithm, options: Options) -> None:
    """Refuse what would be ignored, or would make another loss of the algorithm's.

    Raises:
        ConfigError: with one line for the user.
    """
    bench, training = options.bench, options.training
    defaults = {field.name: field.default for field in fields(BenchConfig)}
    for name, algorithms in _ONLY_IN.items():
        value = getattr(bench, name)
        if algorithm not in algorithms and value != defaults[name]:
            raise ConfigError(
                f"{name} must be left out of a {algorithm} run, got {value!r}; it belongs to "
                f"{', '.join(algorithms)}"
            )
    if algorithm == "routed" and (training.loss_type, bench.aggregation) != ("dapo", "token_mean"):
        raise ConfigError(
            "a routed run must divide both terms by the step's tokens, got loss_type "
            f"{training.loss_type!r} and aggregation {bench.aggregation!r}; use dapo and token_mean"
        )
    if algorithm == "anchored" and bench.teacher_context != "nothing":
        raise ConfigError(
            "an anchored run's teacher must read what the student reads, got teacher_context "
            f"{bench.teacher_context!r}; set it to nothing"
        )
