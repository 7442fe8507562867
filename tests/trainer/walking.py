"""Runs of options drawn at random, and what must hold of every run whatever they are."""

from __future__ import annotations

import math
from collections import Counter
from random import Random
from typing import Any

ALGORITHMS = ("grpo", "sdpo", "hybrid", "routed", "rlsd", "anchored", "sft", "audit")

SHAPE: dict[str, list[Any]] = {
    "per_device_train_batch_size": [1, 2, 3, 4, 8],
    "gradient_accumulation_steps": [1, 2, 3, 4],
    "steps_per_generation": [1, 2, 3, 4],
    "num_iterations": [1, 1, 2, 3],
    "num_generations": [2, 4],
}
"""Of steps and rollout batches; drawn until a rollout batch holds whole groups."""

OF_ALL: dict[str, list[Any]] = {
    "seed": [0, 8], "logging_steps": [2, 3], "max_completion_length": [1, 5], "temperature": [0.3, 1.5],
    "top_p": [0.9], "top_k": [5], "min_p": [0.1], "repetition_penalty": [1.2],
    "generation_kwargs": [{"typical_p": 0.9}, {"no_repeat_ngram_size": 3}],
    "scale_rewards": ["batch", "none", True, False], "mask_truncated_completions": [True],
    "pad_to_multiple_of": [8, 64], "gradient_checkpointing": [True], "lora_dropout": [0.2], "bf16": [True],
    "shuffle_dataset": [False], "visible_tests": ["first", "none"], "token_stats_every": [0, 1, 2],
    "evaluate_every": [1, 2], "eval_samples": [2], "eval_batch": [1, 3], "format_weight": [0.0, 1.0],
    "chat_template_kwargs": [{"enable_thinking": False}], "lr_scheduler_type": ["constant", "cosine"],
    "optim": ["sgd", "adafactor"], "max_grad_norm": [0.0, 0.1], "use_dora": [True], "use_rslora": [True],
    "lora_target_modules": [["q_proj", "v_proj"], ["q_proj"], ["all-linear"]], "use_peft": [False],
    "lora_modules_to_save": [["lm_head"]], "multi_objective_aggregation": ["normalize_then_sum"],
    "disable_dropout": [True], "warmup_steps": [1], "weight_decay": [0.1],
    "save_total_limit": [1], "dataloader_num_workers": [1], "max_problems": [8, 24],
    "torch_empty_cache_steps": [1], "dtype": ["bfloat16", "float32"],
}  # fmt: skip
OF_A_POLICY_LOSS: dict[str, list[Any]] = {
    "loss_type": ["grpo", "dr_grpo", "bnpo", "luspo", "cispo", "sapo", "vespo"], "beta": [0.1],
    "epsilon": [0.1], "epsilon_high": [0.28, 5.0], "delta": [2.0], "importance_sampling_level": ["sequence"],
    "top_entropy_quantile": [0.5], "off_policy_mask_threshold": [0.01], "use_bias_correction_kl": [True],
    "sync_ref_model": [True], "ref_model_sync_steps": [1],
}  # fmt: skip
OF_A_TEACHER: dict[str, list[Any]] = {
    "teacher": ["trust_region", "frozen", "live"], "ema_rate": [0.0, 0.5, 1.0], "trust_region_rate": [0.5],
    "teacher_context": ["feedback", "reference", "nothing"], "success_threshold": [0.0, 0.5],
    "exclude_self": [False], "strip_thinking": [False], "use_feedback": [False],
    "feedback_only_without_solution": [False], "max_teacher_prompt_tokens": [1, 400],
    "support": ["full", "topk_renormalised", "sampled"], "divergence": ["forward_kl", "reverse_kl"],
    "alpha": [0.1], "distill_top_k": [1, 517, 1000], "importance_clip": [None, 1.0], "mismatch_clip": [None],
    "aggregation": ["sequence_mean", "sequence_sum", "sequence_sum_norm", "reference"],
}  # fmt: skip
OF_ONE: dict[str, dict[str, list[Any]]] = {
    "hybrid": {"hybrid_lambda": [0.0, 0.5, 1.0], "problem_weight": ["pass_rate"]},
    "rlsd": {"advantage_clip": [0.0, 1.0], "advantage_mix": [0.5], "advantage_mix_steps": [2]},
    "anchored": {"anchor_weight": [0.0, 2.0]},
    "sdpo": {"problem_weight": ["pass_rate"]},
    "audit": {"problem_weight": ["pass_rate"]},
    "grpo": {"entropy_coef": [0.1], "use_adaptive_entropy": [True]},
}


def draw(rng: Random, *, share: float = 0.12) -> tuple[str, dict[str, Any]]:
    """An algorithm, and options of which most go together with it."""
    algorithm = rng.choice(ALGORITHMS)
    changes: dict[str, Any] = {}
    while not changes or _rollouts(changes) % changes["num_generations"]:
        changes = {name: rng.choice(values) for name, values in SHAPE.items()}
    menus = [OF_ALL, OF_ONE.get(algorithm, {})]
    if algorithm not in ("sdpo", "audit", "sft") or rng.random() < 0.05:
        menus.append(OF_A_POLICY_LOSS)
    if algorithm not in ("grpo", "sft") or rng.random() < 0.3:
        menus.append(OF_A_TEACHER)
    for menu in menus:
        changes |= {name: rng.choice(v) for name, v in menu.items() if rng.random() < share}
    if rng.random() < 0.05:
        changes |= {n: rng.choice(v) for n, v in OF_ONE[rng.choice([*OF_ONE])].items()}
    if algorithm == "audit":  # it compares to float32's last digits, without dropout
        changes = {n: v for n, v in changes.items() if n not in ("dtype", "bf16", "lora_dropout")}
    if algorithm == "anchored" and rng.random() < 0.9:
        changes["teacher_context"] = "nothing"
    if rng.random() < 0.25:
        changes |= {"max_steps": -1, "num_train_epochs": rng.choice([1, 2]), "max_problems": 8}
    else:
        changes["max_steps"] = rng.choice([2, 3])
    return algorithm, changes


def _rollouts(changes: dict[str, Any]) -> int:
    return int(changes["per_device_train_batch_size"] * changes["steps_per_generation"])


def check_rows(
    rows: dict[str, list[dict[str, Any]]], training: Any, *, n_steps: int, n_problems: int
) -> None:
    """What was sampled stands in the journal once, each metric is a number, and an audit agrees."""
    a_batch = training.per_device_train_batch_size * training.steps_per_generation
    rollouts = rows["rollouts"]
    assert len(rollouts) == a_batch * _n_batches(training, n_steps, n_problems)
    keys = Counter((r["step"], r["group_index"], r["member_index"]) for r in rollouts)
    assert max(keys.values()) == 1
    assert len({r["execution_id"] for r in rollouts}) == len(rollouts)
    groups = Counter((r["step"], r["group_index"]) for r in rollouts)
    assert set(groups.values()) == {training.num_generations}
    for row in rows["metrics"]:
        assert math.isfinite(row["value"]), row
    logged = [row["step"] for row in rows["metrics"] if row["name"] == "time/student_s"]
    assert max(logged) == n_steps, "the last steps are logged, too"
    assert len(set(logged)) == len(logged)
    failed = [row for row in rows["audits"] if not row["passed"]]
    assert not failed, failed[:2]


def _n_batches(training: Any, n_steps: int, n_problems: int) -> int:
    """Rollout batches of so many steps, counted one by one; an epoch's last step may be shorter than others."""
    a_rollout = training.steps_per_generation * training.num_iterations
    a_batch = training.per_device_train_batch_size * training.steps_per_generation
    an_epoch = n_problems // (a_batch // training.num_generations) * a_rollout
    n_used = left = 0
    for _ in range(n_steps):
        left = left or an_epoch
        taken = min(training.gradient_accumulation_steps, left)
        n_used, left = n_used + taken, left - taken
    return math.ceil(n_used / a_rollout)
