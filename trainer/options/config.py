"""Our training options, one dataclass beside TRL's own; one YAML file an experiment.

`TrlParser` reads the YAML into this, TRL's GRPOConfig and TRL's ModelConfig, so every TRL option can be
set too, in the file or on the command line, and a key that none of the three knows is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import click
from trl import GRPOConfig, ModelConfig, TrlParser

from analysis.journal.journal import StoreError
from analysis.provenance import check_label
from evaluator.problems.prompt import VisibleTests
from sandbox.client import check_backend
from sandbox.program import SandboxError
from trainer.losses.sdpo import Distillation, DivergenceKind, SupportKind
from trainer.options.early import read_mapping, stray, unknown
from trainer.options.kinds import wrong_in_file, wrong_type
from trainer.teacher.prompt import Context, TeacherRules
from trainer.teacher.weights import TeacherKind

Algorithm = Literal["grpo", "sdpo", "hybrid", "routed", "rlsd", "anchored", "sft", "audit"]
"""See docs/training.md. `audit` is an SDPO run whose every stage is derived a second time and compared."""

_CHOICES = {
    "visible_tests": get_args(VisibleTests),
    # see docs/training.md; all but the last are the reference's by name, over the optimizer step
    "aggregation": "token_mean sequence_mean sequence_sum sequence_sum_norm reference".split(),
    "support": get_args(SupportKind),
    "divergence": get_args(DivergenceKind),
    "teacher": get_args(TeacherKind),
    "teacher_context": get_args(Context),
    "problem_weight": ("uniform", "pass_rate"),
}
_RANGES = {
    **dict.fromkeys(("hybrid_lambda", "ema_rate", "trust_region_rate"), (0, 1)),
    **dict.fromkeys(("success_threshold", "advantage_clip", "advantage_mix"), (0, 1)),
    **dict.fromkeys(("advantage_mix_steps", "anchor_weight", "format_weight"), (0, math.inf)),
    **dict.fromkeys(("evaluate_every", "eval_samples", "token_stats_every"), (0, math.inf)),
    "fault_patience_s": (0, math.inf),
    "timeout_s": (0.001, 3600),
    "calibration_problems": (1, math.inf),
}
"""Of our options that cannot be any number: the least and the largest."""


class ConfigError(Exception):
    """The options are not what they must be; the message is one line for the user."""


def _option(default: Any, help_text: str) -> Any:  # noqa: ANN401 - the type stands at the field
    return field(default=default, metadata={"help": help_text})


@dataclass
class BenchConfig:
    """What this project adds to TRL's options."""

    # problems and their grading
    dataset: str = _option(
        "full/train",
        "problems to train on: full, sanitized or embedded / split, human-eval or a file",
    )
    mbpp_dir: str | None = _option(None, "folder with mbpp.jsonl and sanitized-mbpp.json")
    max_problems: int | None = _option(None, "use only the first N problems")
    visible_tests: str = _option("all", "asserts shown in the prompt: all, first or none")
    prompt_template: str | None = _option(
        None, "file with the user's message, fields {text}, {tests}, {name}; docs/own.md"
    )
    chat_template: str | None = _option(None, "file with a chat template for the tokenizer (Jinja)")
    reward: str | None = _option(
        None, "your own reward, module:function or file.py:function; docs/own.md"
    )
    feedback: str | None = _option(None, "your own feedback, named in the same way")
    format_weight: float = _option(0.3, "weight of the format score in the shipped reward, >= 0")
    sandbox: str = _option(
        "auto", "where programs run: auto, docker, process, or http://HOST:PORT of a server"
    )
    timeout_s: float = _option(5.0, "limit of one program, seconds, 0.001 to 3600")

    # the teacher
    teacher: str = _option("ema", "ema, trust_region, frozen or live; docs/training.md")
    ema_rate: float = _option(0.05, "share of the student in each update of an ema teacher, 0..1")
    trust_region_rate: float = _option(
        0.05, "share of the student in the logits of a trust_region teacher, 0..1"
    )
    teacher_context: str = _option(
        "peer", "what the teacher is shown: peer (else feedback), feedback, reference or nothing"
    )
    success_threshold: float = _option(
        1.0, "least correctness of a completion that is shown to peers"
    )
    exclude_self: bool = _option(True, "never show a completion its own text")
    strip_thinking: bool = _option(True, "leave thinking out of demonstrations, whatever its tags")
    use_feedback: bool = _option(True, "show the sandbox's feedback to the teacher")
    feedback_only_without_solution: bool = _option(True, "no feedback beside a demonstration")
    max_teacher_prompt_tokens: int = _option(10_240, "longest teacher prompt, tokens")
    teacher_template: str = _option(TeacherRules.template, "{prompt}, {solution}, {feedback}")
    solution_template: str = _option(TeacherRules.solution_template, "wording around {solution}")
    feedback_template: str = _option(TeacherRules.feedback_template, "wording around {feedback}")

    # the loss
    support: str = _option("topk_tail", "full, topk_tail, topk_renormalised or sampled")
    divergence: str = _option("jensen_shannon", "forward_kl, reverse_kl or jensen_shannon")
    alpha: float = _option(0.5, "teacher's weight in the Jensen-Shannon mixture, in (0, 1)")
    distill_top_k: int = _option(100, "vocabulary entries compared one by one, >= 1")
    importance_clip: float | None = _option(2.0, "upper bound of the importance weight")
    mismatch_clip: float | None = _option(
        2.0, "upper bound of p(trainer)/p(sampler), if the sampler reports its own (vLLM)"
    )
    aggregation: str = _option(
        "token_mean",
        "over the optimizer step: token_mean, sequence_mean, sequence_sum, sequence_sum_norm or reference",
    )
    hybrid_lambda: float = _option(0.9, "weight of the policy loss in hybrid runs, 0..1")
    problem_weight: str = _option(
        "uniform", "weight of a problem in the distillation: uniform, or pass_rate, sqrt(p (1 - p))"
    )
    advantage_clip: float = _option(
        0.2, "rlsd: bound on how far the teacher scales a token's advantage, 0..1"
    )
    advantage_mix: float = _option(1.0, "rlsd: share of the scaled advantages at step 1, 0..1")
    advantage_mix_steps: int = _option(
        0, "rlsd: optimizer steps over which that share falls to 0; 0 keeps it"
    )
    anchor_weight: float = _option(
        0.1, "anchored: weight of the divergence from the teacher beside the policy loss, >= 0"
    )
    token_stats_every: int = _option(
        10, "keep the tokens of two completions of step 1 and of every N-th; 0 never"
    )

    # evaluation and results
    evaluate_every: int = _option(50, "evaluate every N steps and at the end; 0 never")
    eval_dataset: str = _option("sanitized/test", "problems to evaluate on")
    eval_max_problems: int | None = _option(None, "evaluate on only the first N problems")
    eval_samples: int = _option(
        0, "completions of each problem that an evaluation samples beside the greedy one; 0 none"
    )
    eval_batch: int = _option(16, "prompts sampled at once in an evaluation")
    calibration_problems: int = _option(
        32, "problems of eval_dataset on which the base model is checked before step 1"
    )
    allow_uncalibrated: bool = _option(False, "train whatever the base model's pass@1 is")
    fault_patience_s: float = _option(
        600.0, "how long to wait for a failing sandbox, disk or evaluation, seconds"
    )
    label: str | None = _option(None, "name of the run; default: the algorithm")
    runs_dir: str = _option("runs", "folder that holds the runs")
    use_unsloth: bool = _option(False, "load and train through Unsloth (GPU only)")

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        if problem := wrong_type(self):
            raise ConfigError(problem)
        for name, choices in _CHOICES.items():
            _require(getattr(self, name) in choices, name, self)
        for name, (low, high) in _RANGES.items():
            _require(low <= getattr(self, name) <= high, name, self)
        _require(self.mismatch_clip is None or self.mismatch_clip > 0.0, "mismatch_clip", self)
        if self.reward is not None and self.format_weight != BenchConfig.format_weight:
            raise ConfigError(
                f"format_weight must be left out beside a reward of your own, got {self.format_weight!r}; it "
                "belongs to the shipped one"
            )
        try:
            check_backend(self.sandbox)
            if self.label is not None:
                check_label(self.label)
            self.distillation(temperature=1.0)
            self.teacher_rules()
        except (ValueError, SandboxError, StoreError) as error:
            raise ConfigError(str(error)) from error

    def distillation(self, *, temperature: float) -> Distillation:
        """The loss these options describe, at the sampling temperature."""
        return Distillation(
            support=self.support,  # type: ignore[arg-type]  # checked in __post_init__
            divergence=self.divergence,  # type: ignore[arg-type]
            alpha=self.alpha,
            top_k=self.distill_top_k,
            importance_clip=self.importance_clip,
            temperature=temperature,
        )

    def teacher_rules(self) -> TeacherRules:
        """What the teacher is shown, in which words."""
        return TeacherRules(
            context=self.teacher_context,  # type: ignore[arg-type]  # checked in __post_init__
            exclude_self=self.exclude_self,
            strip_thinking=self.strip_thinking,
            use_feedback=self.use_feedback,
            feedback_only_without_solution=self.feedback_only_without_solution,
            template=self.teacher_template,
            solution_template=self.solution_template,
            feedback_template=self.feedback_template,
        )


@dataclass(frozen=True)
class Options:
    """The three parts of a run's resolved configuration."""

    bench: BenchConfig
    training: GRPOConfig
    model: ModelConfig
    config_text: str = ""
    """The file that it was read from."""
    overrides: tuple[str, ...] = ()
    """The command-line options that won over it."""

    def resolved(self) -> dict[str, Any]:
        """Everything as plain data, as stored with the run."""
        return {
            "bench": dict(vars(self.bench)),
            "training": self.training.to_dict(),
            "model": {f.name: getattr(self.model, f.name) for f in fields(self.model)},
        }


def parse_options(config: Path, overrides: Sequence[str] = ()) -> Options:
    """Read a YAML file and command-line options (`--learning_rate 1e-5`), which win over it.

    Raises:
        ConfigError: the file is missing or no mapping, a key is unknown, or a value is out of range.
    """
    try:
        content = read_mapping(config, config)
    except click.ClickException as error:
        raise ConfigError(error.message) from error
    content.pop("env", None)
    parser = _Parser((BenchConfig, GRPOConfig, ModelConfig), allow_abbrev=False)
    known = {action.dest for action in parser._actions}
    for key in content:
        if key not in known:
            raise ConfigError(unknown(key, known, where=str(config)))
    _check_content(content)
    if "output_dir" in [*content, *(word[2:].partition("=")[0] for word in overrides)]:
        raise ConfigError(
            "output_dir must be left out, got one; a run's folder is made in runs_dir"
        )
    # where the checkpoints go is decided by the run, so no file has to name it
    arguments = ["--output_dir", "unused", "--config", str(config), *overrides]
    try:
        *parsed, rest = parser.parse_args_and_config(arguments, return_remaining_strings=True)
    except ZeroDivisionError as error:
        raise ConfigError(
            "batch sizes and num_generations must be at least 1, got 0 for one of them; set it so"
        ) from error
    except OverflowError as error:
        raise ConfigError(
            f"numbers must be finite, got one that is not ({error}); set it so"
        ) from error
    # TRL and transformers check their options in types of their own, and read files that some of them name
    except (ValueError, TypeError, ImportError, RuntimeError, OSError, LookupError) as error:
        text = " ".join(str(error).split()).rstrip(".")
        if "bf16/gpu" in text:  # TRL's bf16 is on by default; its own advice leaves it on
            raise ConfigError(_NO_GPU.format(config=config)) from error
        raise ConfigError(f"{text}; see `sdpo-bench train --options`") from error
    if rest:
        name = rest[0].lstrip("-").split("=")[0]
        known_names = unknown(name, known, where="the command line")
        raise ConfigError(known_names if rest[0].startswith("--") else stray(rest[0]))
    bench, training, model = parsed
    return Options(
        bench, training, model, config_text=config.read_text(), overrides=tuple(overrides)
    )


_NO_GPU = (
    "bf16 must have a GPU that torch can use, got none for {config}; `sdpo-bench doctor` says why, "
    "and `--config configs/smoke-cpu.yaml` trains on a CPU (of your own file: use_cpu: true, bf16: false)"
)


def _check_content(content: Mapping[str, Any]) -> None:
    """Refuse values in a file that the classes of options would stumble over while they are made."""
    for part in (BenchConfig, GRPOConfig, ModelConfig):
        if problem := wrong_in_file(part, content):
            raise ConfigError(problem)
    for name in (
        "num_generations",
        "max_completion_length",
    ):  # TRL lets them be nothing, and counts
        if name in content and content[name] is None:
            raise ConfigError(
                f"{name} must be a whole number, got nothing; set it, or leave it out"
            )
    # made in Python: its attributes are read at once
    if content.get("parallelism_config") is not None:
        raise ConfigError(
            f"parallelism_config must be left out, got {content['parallelism_config']!r}; use one process or plain DDP"
        )


class _Parser(TrlParser):
    """TRL's parser, whose usage text of 300 options is no answer to a misspelt one."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `sdpo-bench train --options`")


def _require(holds: bool, name: str, config: BenchConfig) -> None:
    if not holds:
        option = next(f for f in fields(config) if f.name == name)
        raise ConfigError(
            f"{name} must be in range, got {getattr(config, name)!r}; it is: {option.metadata['help']}"
        )
