"""Options of TRL and transformers that a run does not read, or that would change it unseen: each is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
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
    "log_completions": "`sdpo-bench show` and the report: the journal holds every completion",
    "log_unique_prompts": "`sdpo-bench show` and the report",
    "num_completions_to_print": "`sdpo-bench show` and the report",
    "log_completions_hub_repo": "`sdpo-bench export`",
    "include_num_input_tokens_seen": "n_prompt_tokens and n_completion_tokens of the rollouts",
    "train_sampling_strategy": "shuffle_dataset",
    "optim_target_modules": "lora_target_modules",
    "liger_kernel_config": "use_liger_kernel, with its default",
    "do_eval": "evaluate_every",
    "do_predict": "evaluate_every",
    "prediction_loss_only": "evaluate_every",
    "metric_for_best_model": "evaluate_every and save_steps",
    "greater_is_better": "evaluate_every and save_steps",
    "bf16_full_eval": "bf16",
    "fp16_full_eval": "fp16",
    "label_names": "dataset: a problem has no labels",
    "max_tool_calling_iterations": "none: no tool is called",
    "eval_do_concat_batches": "evaluate_every",
    "eval_use_gather_object": "evaluate_every",
    "batch_eval_metrics": "evaluate_every",
    "include_for_metrics": "evaluate_every",
    "do_train": "`sdpo-bench train`, which trains",
    "hub_model_id": "an upload of runs/RUN/adapter by hand",
    "hub_strategy": "an upload of runs/RUN/adapter by hand",
    "hub_token": "an upload of runs/RUN/adapter by hand",
    "hub_private_repo": "an upload of runs/RUN/adapter by hand",
    "hub_always_push": "an upload of runs/RUN/adapter by hand",
    "hub_revision": "an upload of runs/RUN/adapter by hand",
    "length_column_name": "shuffle_dataset",
    "dataloader_drop_last": "max_problems: a rollout batch is always whole",
    "use_cache": "generation_kwargs with use_cache",
    "log_multimodal": "`sdpo-bench show` and the report",
    "ds3_gather_for_generation": "none: DeepSpeed is not used",
    "transformers_continuous_batching_config": "use_vllm",
    "use_transformers_continuous_batching": "use_vllm",
    "use_transformers_paged": "use_vllm",
}
"""Options of TRL and transformers that a run does not read, and what there is in their place."""

_SPOILS = {
    "save_only_model": "a run goes on from its optimizer's state, too; to keep fewer checkpoints set save_total_limit",
    "dataloader_in_order": "problems would come in another order in each run; leave it",
    "ignore_data_skip": "a resumed run would begin its problems again; leave it",
    "restore_callback_states_from_checkpoint": "a resumed run takes up its own state; leave it",
    "enable_jit_checkpoint": "a run that is told to stop saves its state by itself; leave it",
    "accelerator_config": "rollouts are counted as the default spreads them over processes; leave it",
    "parallelism_config": "loss and teacher read whole weights in each process; use one process or plain DDP",
    "fsdp": "loss and teacher read whole weights in each process; use one process or plain DDP",
    "fsdp_config": "loss and teacher read whole weights in each process; use one process or plain DDP",
    "deepspeed": "loss and teacher read whole weights in each process; use one process or plain DDP",
    "remove_unused_columns": "it would take the number of its problem from each prompt; leave it",
}
"""Options of transformers that would change a run, or what is recorded of it, unseen."""


def check_use(algorithm: str, options: Options) -> None:
    """Refuse options that the algorithm does not read: a person who sets one believes that it counts.

    Raises:
        ConfigError: with one line that names who reads the option.
    """
    for name in _set(options, _ELSEWHERE):
        raise ConfigError(
            f"{name} must be left out, got {_value(options, name)!r}, which no run reads; use {_ELSEWHERE[name]}"
        )
    for name in _set(options, _SPOILS):
        raise ConfigError(
            f"{name} must be left out, got {_value(options, name)!r}; {_SPOILS[name]}"
        )
    if not options.training.use_vllm:
        of_vllm = [f.name for f in dataclasses.fields(GRPOConfig) if f.name.startswith("vllm_")]
        for name in _set(options, of_vllm):
            raise ConfigError(
                f"{name} must be left out without use_vllm, got {_value(options, name)!r}, which only vLLM reads; set "
                "use_vllm to true"
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


def _set(options: Options, names: Iterable[str]) -> list[str]:
    """Those of the options that are not at their default; nothing in another type is nothing, too."""
    given = {name: _value(options, name) for name in names}
    return [
        name
        for name, value in given.items()
        if value != _default(name) and not (_is_nothing(value) and _is_nothing(_default(name)))
    ]


def _is_nothing(value: Any) -> bool:  # noqa: ANN401
    return value is False or value in (None, "", [], {})


def _value(options: Options, name: str) -> Any:  # noqa: ANN401
    part = options.training if hasattr(options.training, name) else options.model
    value = getattr(part, name)
    # transformers puts its defaults where nothing is given
    return None if value == AcceleratorConfig() else value


def _default(name: str) -> Any:  # noqa: ANN401
    fields = [*dataclasses.fields(GRPOConfig), *dataclasses.fields(ModelConfig)]
    found = next(field for field in fields if field.name == name)
    made = found.default_factory
    return found.default if made is dataclasses.MISSING else made()
