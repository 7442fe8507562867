"""Options that would be ignored, or cannot work, are refused before anything is loaded.

Each check raises a ConfigError with one line for the user.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from peft import PeftConfig
from transformers import GenerationConfig
from trl import ModelConfig, get_peft_config

from evaluator.models.objects import CausalModel
from evaluator.problems.problem import Problem
from trainer.options.config import Algorithm, BenchConfig, ConfigError, Options
from trainer.options.early import near_miss
from trainer.options.kinds import wrong_type

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
    "save_strategy": ("no", "steps", "epoch"),
    "vllm_importance_sampling_mode": (
        "token_truncate",
        "token_mask",
        "sequence_truncate",
        "sequence_mask",
    ),
}
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

_NARROWING = (
    "typical_p", "epsilon_cutoff", "eta_cutoff", "top_h", "no_repeat_ngram_size", "min_new_tokens", "bad_words_ids",
    "suppress_tokens", "begin_suppress_tokens", "sequence_bias", "exponential_decay_length_penalty",
    "renormalize_logits", "remove_invalid_values", "use_cache", "prefill_chunk_size",
)  # fmt: skip
"""Fields of transformers' GenerationConfig that leave one row a prompt, its end and its temperature as they are."""

_SET_BY_OPTION = {
    "temperature": "temperature, by which the loss divides, too",
    "do_sample": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_completion_length",
    "max_length": "max_completion_length",
    "min_length": "min_new_tokens",
    "num_return_sequences": "num_generations",
    "eos_token_id": "the list in the model's generation_config.json",
    "forced_eos_token_id": "mask_truncated_completions",
    "cache_implementation": "cache_implementation",
}
"""Fields that an option of the run sets: beside it they would be read by the sampler alone."""


def check_settings(algorithm: Algorithm, options: Options) -> None:
    """Refuse what would be ignored, or would make another loss of the algorithm's."""
    bench, training = options.bench, options.training
    defaults = {field.name: field.default for field in dataclasses.fields(BenchConfig)}
    for name, algorithms in _ONLY_IN.items():
        value = getattr(bench, name)
        if algorithm not in algorithms and value != defaults[name]:
            raise ConfigError(
                f"{name} must be left out with {algorithm}, got {value!r}; it belongs to {', '.join(algorithms)}"
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


def check_values(options: Options) -> None:
    """Refuse values of another type, and numbers out of range."""
    for part in (options.bench, options.training, options.model):
        if problem := wrong_type(part):
            raise ConfigError(problem)
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
    recomputing = options.training.gradient_checkpointing_kwargs or {}
    if not isinstance(recomputing, dict) or not set(recomputing) <= {"use_reentrant"}:
        raise ConfigError(
            f"gradient_checkpointing_kwargs must hold use_reentrant alone, got {recomputing!r}; set it so"
        )


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
    """Refuse what is no field of transformers' GenerationConfig, and fields by which sampler and loss would differ."""
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
        if name not in _NARROWING:
            instead = f"set {_SET_BY_OPTION[name]}" if name in _SET_BY_OPTION else "leave it out"
            raise ConfigError(
                "generation_kwargs must hold what narrows the distribution of a token "
                f"({', '.join(_NARROWING)}), got {name!r}; {instead}"
            )


def check_length(options: Options, n_problems: int) -> None:
    """Refuse a run that would end before its first step with an untrained adapter."""
    training = options.training
    n_asked = training.generation_batch_size // training.num_generations
    if n_problems < n_asked:
        raise ConfigError(
            f"a rollout batch of {training.generation_batch_size} completions must find {n_asked} problems, got "
            f"{n_problems}; lower per_device_train_batch_size or steps_per_generation, or take more problems"
        )


def check_references(bench: BenchConfig, problems: Iterable[Problem]) -> None:
    """Refuse to show references where a problem has none."""
    lacking = [problem for problem in problems if not problem.reference]
    if bench.teacher_context == "reference" and lacking:
        raise ConfigError(
            f"teacher_context reference must find a reference solution of every problem, got none of "
            f"{len(lacking)} (task {lacking[0].task_id}); add them, or show peer or feedback"
        )


def check_trackers(options: Options) -> None:
    """Refuse a tracker whose package is not installed."""
    for tracker in options.training.report_to:
        module = {"azure_ml": "azureml", "dvclive": "dvclive", "flyte": "flytekitplugins"}.get(
            tracker, tracker
        )
        # of a dotted name the package alone: to look for more imports it
        is_there = importlib.util.find_spec(module.partition(".")[0]) is not None
        if tracker not in ("none", "all") and not is_there:
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


def check_targets(model: CausalModel, config: PeftConfig | None) -> None:
    """Refuse names that no module of the model bears: PEFT is content if one of several does."""
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


def check_float32_head(model: CausalModel, options: Options) -> None:
    """Refuse to cast a head that TRL does not find: an adapter's wrapper hides the embedding that it shares."""
    shares = getattr(model.config, "tie_word_embeddings", False)
    if options.training.cast_lm_head_to_fp32 and options.model.use_peft and shares:
        raise ConfigError(
            "cast_lm_head_to_fp32 must be left out where an adapter is trained and the head is the embedding, got "
            "True; set dtype to float32"
        )


def check_saved_modules(model: CausalModel, options: Options) -> None:
    """Refuse modules that are trained whole, and so in float32, between layers that are not."""
    whole, dtype = options.model.lora_modules_to_save, model.get_input_embeddings().weight.dtype
    if (
        options.model.use_peft
        and whole
        and dtype != torch.float32
        and not options.bench.use_unsloth
    ):
        raise ConfigError(
            f"lora_modules_to_save must go with float32, in which they are trained, got {whole!r} in a model in "
            f"{str(dtype).removeprefix('torch.')}; set dtype to float32, or leave them out"
        )
