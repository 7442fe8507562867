"""Options of TRL and transformers that a run does not read, or that would change it unseen: each is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any

from transformers.trainer_pt_utils import AcceleratorConfig
from trl import GRPOConfig, ModelConfig

from trainer.options.config import ConfigError, Options

_POLICY_LOSS = (
    "beta", "loss_type", "epsilon", "epsilon_high", "delta", "importance_sampling_level", "top_entropy_quantile",
    "off_policy_mask_threshold", "use_bias_correction_kl", "sapo_temperature_pos", "sapo_temperature_neg",
    "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg", "sync_ref_model",
    "ref_model_mixup_alpha", "ref_model_sync_steps", "vllm_importance_sampling_mode",
    "vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_min", "vllm_importance_sampling_cap",
)  # fmt: skip
"""Of TRL's policy loss: the algorithms without one do not read them."""

_GRPO_ALONE = (
    "entropy_coef", "use_adaptive_entropy", "entropy_coef_min", "entropy_coef_max", "entropy_coef_delta",
    "entropy_target", "router_aux_loss_coef", "use_liger_kernel",
)  # fmt: skip
"""Of TRL's own forward pass: where ours is in its place, they would change what is logged and no weight."""

_EVALUATION = (
    "eval_strategy", "eval_on_start", "eval_steps", "eval_delay", "do_eval", "do_predict", "prediction_loss_only",
    "eval_do_concat_batches", "eval_use_gather_object", "batch_eval_metrics", "include_for_metrics",
)  # fmt: skip
_HUB = (
    "push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "hub_always_push", "hub_revision",
)  # fmt: skip
_BEST = ("load_best_model_at_end", "metric_for_best_model", "greater_is_better")
_PRINTED = ("log_unique_prompts", "num_completions_to_print", "log_multimodal")
_CONTINUOUS = (
    "transformers_continuous_batching_config", "use_transformers_continuous_batching", "use_transformers_paged",
)  # fmt: skip
_ELSEWHERE = {
    "reward_weights": "format_weight",
    "model_init_kwargs": "dtype, load_in_4bit or use_unsloth",
    **dict.fromkeys(_EVALUATION, "evaluate_every"),
    **dict.fromkeys(_BEST, "evaluate_every and save_steps"),
    "per_device_eval_batch_size": "eval_batch",
    "eval_accumulation_steps": "eval_batch",
    "label_smoothing_factor": "none: no loss here is smoothed",
    "data_seed": "seed",
    "num_generations_eval": "eval_dataset",
    "resume_from_checkpoint": "`sdpo-bench train --resume`",
    "neftune_noise_alpha": "temperature",
    "model_revision": "model_name_or_path with a folder of that revision",
    "trust_remote_code": "a model that transformers knows",
    "attn_implementation": "the model's own",
    "lora_task_type": "its default, CAUSAL_LM",
    "bnb_4bit_quant_type": "load_in_4bit, which is NF4",
    "bnb_4bit_quant_storage": "load_in_4bit",
    "use_bnb_nested_quant": "load_in_4bit, which quantises twice",
    **dict.fromkeys(_HUB, "an upload of runs/RUN/adapter by hand"),
    "torch_compile": "no compilation: the loss reads hidden states inside the model",
    "log_completions": "`sdpo-bench show` and the report: the journal holds every completion",
    **dict.fromkeys(_PRINTED, "`sdpo-bench show` and the report"),
    "log_completions_hub_repo": "`sdpo-bench export`",
    "include_num_input_tokens_seen": "n_prompt_tokens and n_completion_tokens of the rollouts",
    "train_sampling_strategy": "shuffle_dataset",
    "length_column_name": "shuffle_dataset",
    "optim_target_modules": "lora_target_modules",
    "liger_kernel_config": "use_liger_kernel, with its default",
    "bf16_full_eval": "bf16",
    "fp16_full_eval": "fp16",
    "label_names": "dataset: a problem has no labels",
    "max_tool_calling_iterations": "none: no tool is called",
    "do_train": "`sdpo-bench train`, which trains",
    "dataloader_drop_last": "max_problems: a rollout batch is always whole",
    "use_cache": "generation_kwargs with use_cache",
    "ds3_gather_for_generation": "none: DeepSpeed is not used",
    **dict.fromkeys(_CONTINUOUS, "use_vllm"),
}
"""Options of TRL and transformers that a run does not read, and what there is in their place."""

_WHOLE_WEIGHTS = "loss and teacher read whole weights in each process; use one process or plain DDP"
_SPOILS = {
    "save_only_model": "a run goes on from its optimizer's state, too; to keep fewer checkpoints set save_total_limit",
    "dataloader_in_order": "problems would come in another order in each run; leave it",
    "ignore_data_skip": "a resumed run would begin its problems again; leave it",
    "restore_callback_states_from_checkpoint": "a resumed run takes up its own state; leave it",
    "enable_jit_checkpoint": "a run that is told to stop saves its state by itself; leave it",
    "accelerator_config": "rollouts are counted as the default spreads them over processes; leave it",
    **dict.fromkeys(("parallelism_config", "fsdp", "fsdp_config", "deepspeed"), _WHOLE_WEIGHTS),
    "remove_unused_columns": "it would take the number of its problem from each prompt; leave it",
}
"""Options of transformers that would change a run, or what is recorded of it, unseen."""

_NEVER = {
    **{name: f", which no run reads; use {instead}" for name, instead in _ELSEWHERE.items()},
    **{name: f"; {why}" for name, why in _SPOILS.items()},
}

_DEFAULTS = {
    field.name: field.default if field.default_factory is MISSING else field.default_factory()
    for part in (ModelConfig, GRPOConfig)
    for field in fields(part)
}


def check_use(algorithm: str, options: Options) -> None:
    """Refuse options that the algorithm does not read: a person who sets one believes that it counts.

    Raises:
        ConfigError: with one line that names who reads the option.
    """
    of_vllm = [f.name for f in fields(GRPOConfig) if f.name.startswith("vllm_")]
    with_it = f" with {algorithm}"
    no_policy_loss = ", which has no policy loss to read it; train grpo or hybrid"
    for applies, names, where, why in (
        (True, _NEVER, "", ""),
        (not options.training.use_vllm, of_vllm, " without use_vllm", ", which only vLLM reads; set use_vllm to true"),
        (algorithm in ("sdpo", "audit", "sft"), _POLICY_LOSS, with_it, no_policy_loss),
        (algorithm != "grpo", _GRPO_ALONE, with_it, ", which it would not train by; train grpo"),
    ):  # fmt: skip
        for name in _set(options, names) if applies else ():
            raise ConfigError(
                f"{name} must be left out{where}, got {_value(options, name)!r}{why or _NEVER[name]}"
            )


def _set(options: Options, names: Iterable[str]) -> list[str]:
    """Those of the options that are not at their default; nothing in another type is nothing, too."""
    given = [(name, _value(options, name), _DEFAULTS[name]) for name in names]
    return [
        name
        for name, value, default in given
        if value != default and not (_is_nothing(value) and _is_nothing(default))
    ]


def _is_nothing(value: Any) -> bool:  # noqa: ANN401
    return value is False or value in (None, "", [], {})


def _value(options: Options, name: str) -> Any:  # noqa: ANN401
    part = options.training if hasattr(options.training, name) else options.model
    value = getattr(part, name)
    # transformers puts its defaults where nothing is given
    return None if value == AcceleratorConfig() else value
