"""Options that would be ignored, or cannot work, are refused in one line before anything is loaded."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from peft import PeftConfig
from transformers import GenerationConfig
from trl import GRPOConfig, ModelConfig, get_peft_config

from evaluator.problems.problem import Problem
from trainer.options.config import BenchConfig, ConfigError, Options, near_miss

_POLICY_LOSS = (
    "beta", "loss_type", "epsilon", "epsilon_high", "delta", "importance_sampling_level", "top_entropy_quantile",
    "off_policy_mask_threshold", "use_bias_correction_kl", "sapo_temperature_pos", "sapo_temperature_neg",
    "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg", "sync_ref_model",
    "ref_model_mixup_alpha", "ref_model_sync_steps",
)  # fmt: skip
"""Of TRL's policy loss: the algorithms without one do not read them."""

_WITHOUT_POLICY_LOSS = ("sdpo", "audit", "sft")

_GRPO_ALONE = (
    "entropy_coef", "use_adaptive_entropy", "entropy_coef_min", "entropy_coef_max", "entropy_coef_delta",
    "entropy_target", "router_aux_loss_coef", "use_liger_kernel",
)  # fmt: skip
"""Of TRL's own forward pass: where ours is in its place, they would change what is logged and no weight."""

_ELSEWHERE = {
    "reward_weights": "format_weight",
    "model_init_kwargs": "dtype, load_in_4bit or use_unsloth",
    "eval_strategy": "evaluate_every",
    "eval_on_start": "evaluate_every",
    "eval_steps": "evaluate_every",
    "eval_delay": "evaluate_every",
    "per_device_eval_batch_size": "eval_batch",
    "eval_accumulation_steps": "eval_batch",
    "label_smoothing_factor": "none: no loss here is smoothed",
    "data_seed": "seed",
    "num_generations_eval": "eval_dataset",
    "load_best_model_at_end": "evaluate_every and save_steps",
    "resume_from_checkpoint": "`sdpo-bench train --resume`",
    "neftune_noise_alpha": "temperature",
    "model_revision": "model_name_or_path with a folder of that revision",
    "trust_remote_code": "a model that transformers knows",
    "attn_implementation": "the model's own",
    "lora_task_type": "its default, CAUSAL_LM",
    "bnb_4bit_quant_type": "load_in_4bit, which is NF4",
    "bnb_4bit_quant_storage": "load_in_4bit",
    "use_bnb_nested_quant": "load_in_4bit, which quantises twice",
    "push_to_hub": "an upload of runs/RUN/adapter by hand",
    "torch_compile": "no compilation: the loss reads hidden states inside the model",
}
"""Options of TRL and transformers that a run does not read, and what there is in their place."""

_MORE_THAN_0 = (
    "learning_rate", "temperature", "repetition_penalty", "lora_alpha", "adam_epsilon", "save_steps",
    "logging_steps", "num_train_epochs",
)  # fmt: skip
_AT_LEAST_1 = (
    "max_completion_length", "per_device_train_batch_size", "gradient_accumulation_steps", "num_iterations",
    "steps_per_generation", "lora_r", "eval_batch", "max_problems", "eval_max_problems", "pad_to_multiple_of",
    "max_teacher_prompt_tokens", "save_total_limit",
)  # fmt: skip
_MAY_BE_NEGATIVE = ("max_steps", "local_rank")
"""What else is a number must be finite and at least 0."""
_LARGEST = 2**63 - 1
"""A run is described in integers of 64 bits."""
_SEEDS = 2**32
"""Numpy takes no seed from here on."""
_SHARES = ("min_p", "top_entropy_quantile")
_BELOW_1 = ("adam_beta1", "adam_beta2", "lora_dropout")
_CHOICES = {
    "loss_type": ("grpo", "dapo", "dr_grpo", "bnpo", "luspo", "cispo", "sapo", "vespo"),
    "scale_rewards": ("group", "batch", "none"),
    "importance_sampling_level": ("token", "sequence"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "dtype": (None, "auto", "float32", "bfloat16", "float16"),
}


def check_values(options: Options) -> None:
    """Refuse values of another type, and numbers out of range.

    Raises:
        ConfigError: with one line for the user.
    """
    for part in (options.bench, options.training, options.model):
        _check_types(part)
    values: dict[str, Any] = {
        **vars(options.model),
        **vars(options.training),
        **vars(options.bench),
    }
    _check_numbers(values)
    for names, holds, what in (
        (_MORE_THAN_0, lambda value: value > 0, "more than 0"),
        (_AT_LEAST_1, lambda value: value >= 1, "at least 1"),
        (("seed",), lambda value: value < _SEEDS, f"below {_SEEDS}"),
        (_SHARES, lambda value: 0 <= value <= 1, "in 0..1"),
        (_BELOW_1, lambda value: 0 <= value < 1, "at least 0 and below 1"),
        (("top_p",), lambda value: 0 < value <= 1, "more than 0 and at most 1"),
        (("max_steps",), lambda value: value == -1 or value >= 1, "at least 1, or -1 for epochs"),
    ):
        for name in names:
            value = values.get(name)
            if value is not None and not holds(value):  # type: ignore[no-untyped-call]
                raise ConfigError(f"{name} must be {what}, got {value}; set it so")
    for name, choices in _CHOICES.items():
        if values[name] not in choices:
            known = ", ".join(str(choice) for choice in choices if choice)
            raise ConfigError(f"{name} must be one of {known}, got {values[name]!r}; choose one")
    _check_generation_kwargs(options.training.generation_kwargs)


def _check_numbers(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value) or abs(value) > _LARGEST:
            raise ConfigError(
                f"{name} must be a finite number of at most 64 bits, got {value}; set it so"
            )
        if value < 0 and name not in _MAY_BE_NEGATIVE:
            raise ConfigError(f"{name} must be at least 0, got {value}; set it so")


def _check_generation_kwargs(given: Any) -> None:  # noqa: ANN401 - whatever the file holds
    if given is None:
        return
    if not isinstance(given, dict):
        raise ConfigError(f"generation_kwargs must be a mapping, got {given!r}; write name: value")
    known = vars(GenerationConfig())
    for name in given:
        if name not in known:
            raise ConfigError(
                f"generation_kwargs must name fields of transformers' GenerationConfig, got {name!r}; "
                f"{near_miss(str(name), known) or 'correct it'}"
            )


def check_use(algorithm: str, options: Options) -> None:
    """Refuse options that the algorithm does not read: a person who sets one believes that it counts.

    Raises:
        ConfigError: with one line that names who reads the option.
    """
    for name in _set(options, _ELSEWHERE):
        raise ConfigError(
            f"{name} must be left out, got {_value(options, name)!r}, which no run reads; use {_ELSEWHERE[name]}"
        )
    if algorithm in _WITHOUT_POLICY_LOSS:
        for name in _set(options, _POLICY_LOSS):
            raise ConfigError(
                f"{name} must be left out with {algorithm}, got {_value(options, name)!r}, which has no policy "
                "loss to read it; train grpo or hybrid"
            )
    if algorithm != "grpo":
        for name in _set(options, _GRPO_ALONE):
            raise ConfigError(
                f"{name} must be left out with {algorithm}, got {_value(options, name)!r}, which it would not "
                "train by; train grpo"
            )


def check_length(options: Options, n_problems: int) -> None:
    """Refuse a run that would end before its first step with an untrained adapter.

    Raises:
        ConfigError: with one line for the user.
    """
    training = options.training
    n_asked = training.generation_batch_size // training.num_generations
    if n_problems < n_asked:
        raise ConfigError(
            f"a rollout batch of {training.generation_batch_size} completions must find {n_asked} problems, got "
            f"{n_problems}; lower per_device_train_batch_size or steps_per_generation, or take more problems"
        )


def check_references(bench: BenchConfig, problems: Iterable[Problem]) -> None:
    """Refuse to show references where a problem has none.

    Raises:
        ConfigError: with one line for the user.
    """
    lacking = [problem for problem in problems if not problem.reference]
    if bench.teacher_context == "reference" and lacking:
        raise ConfigError(
            f"teacher_context reference must find a reference solution of every problem, got none of "
            f"{len(lacking)} (task {lacking[0].task_id}); add them, or show peer or feedback"
        )


def check_trackers(options: Options) -> None:
    """Refuse a tracker whose package is not installed.

    Raises:
        ConfigError: with one line for the user.
    """
    for tracker in options.training.report_to:
        module = {"azure_ml": "azureml", "dvclive": "dvclive", "flyte": "flytekitplugins"}.get(
            tracker, tracker
        )
        if tracker not in ("none", "all") and importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"report_to must name trackers that are installed, got {tracker!r}; install it, or set report_to "
                "to none"
            )


def adapter_config(model: ModelConfig) -> PeftConfig | None:
    """The LoRA adapter that is asked for; None for training all weights.

    TRL makes a bare string of a list of one, and PEFT reads a string as a pattern over whole names.
    """
    config: PeftConfig | None = get_peft_config(model)
    targets = getattr(config, "target_modules", None)
    if (
        config is not None
        and isinstance(targets, str)
        and targets != "all-linear"
        and re.fullmatch(r"[\w.]+", targets)
    ):
        config.target_modules = {targets}
    return config


def check_targets(model: Any, config: PeftConfig | None) -> None:  # noqa: ANN401
    """Refuse names that no module of the model bears: PEFT is content if one of several does.

    Raises:
        ConfigError: with one line for the user.
    """
    names = [name for name, _ in model.named_modules()]
    for option, field in (
        ("lora_target_modules", "target_modules"),
        ("lora_modules_to_save", "modules_to_save"),
    ):
        targets = getattr(config, field, None)
        for target in [] if targets is None or isinstance(targets, str) else sorted(targets):
            if not any(name == target or name.endswith(f".{target}") for name in names):
                last = sorted({name.rpartition(".")[2] for name in names if "." in name})
                raise ConfigError(
                    f"{option} must name modules of the model, got {target!r}; it has "
                    f"{', '.join(name for name in last if not name.isdecimal())}"
                )


def _set(options: Options, names: Iterable[str]) -> list[str]:
    """Those of the options that are not at their default."""
    return [name for name in names if _value(options, name) != _default(name)]


def _value(options: Options, name: str) -> Any:  # noqa: ANN401
    part = options.training if hasattr(options.training, name) else options.model
    return getattr(part, name)


def _default(name: str) -> Any:  # noqa: ANN401
    fields = [*dataclasses.fields(GRPOConfig), *dataclasses.fields(ModelConfig)]
    return next(field.default for field in fields if field.name == name)


def _check_types(part: BenchConfig | GRPOConfig | ModelConfig) -> None:
    """YAML values keep the type that they are written in, which may not be the option's."""
    hints = typing.get_type_hints(type(part))
    for field in dataclasses.fields(part):
        kinds = _plain(hints[field.name])
        value = getattr(part, field.name)
        if not kinds or value is None or type(value) in kinds:
            continue
        if float in kinds and type(value) is int:
            continue
        raise ConfigError(
            f"{field.name} must be {' or '.join(kind.__name__ for kind in kinds)}, got {value!r}; "
            "see `sdpo-bench train --options`"
        )


def _plain(hint: Any) -> set[type]:  # noqa: ANN401
    """The plain types that an option admits; empty where it admits others, which are not checked here."""
    kinds = set(typing.get_args(hint)) if _is_union(hint) else {hint}
    kinds -= {type(None)}
    return kinds if kinds <= {int, float, bool} else set()


def _is_union(hint: Any) -> bool:  # noqa: ANN401
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
