"""Checks the losses and the teacher prompts against a folder of recorded cases (manifest.json, npz, reprompt.json)."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from trainer.losses.aggregation import sequence_mean, sequence_sum, sequence_sum_norm, token_mean
from trainer.losses.sdpo import Distillation, DivergenceKind, SupportKind, token_losses
from trainer.teacher.prompt import (
    Attempt,
    Coverage,
    TeacherPrompt,
    TeacherRules,
    coverage,
    teacher_prompts,
)


@dataclass(frozen=True)
class LossCheck:
    """Largest absolute deviations of one case, each beside the tolerance that the case states."""

    case: str
    loss: float
    loss_tolerance: float
    per_token: float
    per_token_tolerance: float
    gradient: float
    gradient_tolerance: float

    @property
    def passed(self) -> bool:
        """Whether no deviation is over its tolerance; NaN is over."""
        return (
            self.loss <= self.loss_tolerance
            and self.per_token <= self.per_token_tolerance
            and self.gradient <= self.gradient_tolerance
        )


@dataclass(frozen=True)
class PromptCheck:
    """The first difference of one teacher-prompt scenario; None where there is none."""

    case: str
    difference: str | None

    @property
    def passed(self) -> bool:
        """Whether everything agrees."""
        return self.difference is None


def check_losses(folder: Path) -> list[LossCheck]:
    """Run every case of `folder/manifest.json`.

    Raises:
        ValueError: the folder is not in that form.
    """
    path = folder / "manifest.json"
    return [
        _of_case(case, path, lambda case: _check_loss(folder, case)) for case in _cases_of(path)
    ]


def check_prompts(folder: Path) -> list[PromptCheck]:
    """Run every scenario of `folder/reprompt.json`.

    Raises:
        ValueError: the folder is not in that form.
    """
    path = folder / "reprompt.json"
    defaults = _read_json(path).get("default_config")
    if not isinstance(defaults, dict):
        raise ValueError(f"{path} must hold a default_config, got {type(defaults).__name__}")
    return [
        _of_case(case, path, lambda case: _check_prompt(case, defaults)) for case in _cases_of(path)
    ]


def _cases_of(path: Path) -> list[Any]:
    cases = _read_json(path).get("cases")
    if not isinstance(cases, list) or not cases:
        what = "none" if cases == [] else type(cases).__name__
        raise ValueError(f"{path} must hold a list of cases, got {what}")
    return cases


Check = TypeVar("Check")


def _of_case(case: Any, path: Path, check: Callable[[Any], Check]) -> Check:  # noqa: ANN401
    """Check one recorded case; whatever is wrong with its form is one line that names it."""
    name = case.get("id") if isinstance(case, dict) else None
    try:
        return check(case)
    except _OUT_OF_FORM as error:
        what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
    raise ValueError(f"case {name!r} of {path} must be in the recorded form, got {what}")


_OUT_OF_FORM = (
    *(LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError),
    *(OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error),
)
"""A missing key, a value or an array of another kind or shape, a file that is none."""


def _chosen(config: Mapping[str, Any], name: str, among: Mapping[Any, Any]) -> Any:  # noqa: ANN401
    """What a recorded setting stands for here."""
    if config[name] not in among:
        raise ValueError(f"{name} {config[name]!r}, known are {', '.join(map(repr, among))}")
    return among[config[name]]


def _only(known: Iterable[str], given: Iterable[str], what: str) -> None:
    """A setting that is not known would be left out of the check without a word."""
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"{what} {', '.join(unknown)}, which is not known")


def _check_loss(folder: Path, case: Mapping[str, Any]) -> LossCheck:
    _only(_LOSS_SETTINGS, case["config"], "the setting")
    with np.load(folder / case["file"], allow_pickle=False) as file:
        arrays = {name: torch.from_numpy(array) for name, array in file.items()}
    _only(_ARRAYS, arrays, "the array")
    _check_shapes(arrays)
    mask = arrays["response_mask"].bool()
    if "self_distillation_mask" in arrays:
        mask = mask & arrays["self_distillation_mask"].bool().unsqueeze(-1)
    arrays = _without_unread(arrays, mask)
    logits = arrays["student_logits"].requires_grad_()
    per_token = token_losses(
        logits,
        arrays["teacher_logits"],
        arrays["responses"],
        spec=_distillation(case["config"]),
        old_logprobs=arrays.get("old_log_probs"),
    )
    if "rollout_is_weights" in arrays:
        per_token = per_token * arrays["rollout_is_weights"]
    aggregate = _chosen(case["config"], "loss_agg_mode", _AGGREGATIONS)
    loss = aggregate(per_token, mask)
    (gradient,) = torch.autograd.grad(loss, logits)
    read = arrays["read"]
    return LossCheck(
        case=str(case["id"]),
        loss=_deviation(loss, arrays["expected_loss"]),
        loss_tolerance=_tolerance(case, "loss_abs"),
        per_token=_deviation(per_token[read], arrays["expected_per_token"][read]),
        per_token_tolerance=_tolerance(case, "per_token_abs"),
        gradient=_deviation(gradient[read], arrays["expected_grad_student_logits"][read]),
        gradient_tolerance=_tolerance(case, "grad_abs"),
    )


def _without_unread(arrays: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """The arrays with 0 where a token outside the mask holds what is no number: it must not matter.

    `read` among them says which tokens are left to compare.
    """
    broken = torch.zeros_like(mask)
    for name in _OF_A_TOKEN:
        if name in arrays:
            broken |= ~arrays[name].isfinite().view(*mask.shape, -1).all(-1)
    unread = broken & ~mask
    filled = {
        name: arrays[name].masked_fill(unread.view(*mask.shape, *[1] * (arrays[name].dim() - 2)), 0)
        for name in _OF_A_TOKEN
        if name in arrays
    }
    return {**arrays, **filled, "read": ~unread}


def _check_shapes(arrays: Mapping[str, Tensor]) -> None:
    """What can be stretched to fit would be compared with something that it does not stand for."""
    logits = arrays["student_logits"]
    if logits.dim() != 3:
        raise ValueError(
            f"student_logits of shape {list(logits.shape)}, not row, token, vocabulary"
        )
    tokens, rows = logits.shape[:2], logits.shape[:1]
    for name, shape in {
        "teacher_logits": logits.shape,
        **dict.fromkeys(("responses", "response_mask", "old_log_probs"), tokens),
        "rollout_is_weights": tokens,
        "self_distillation_mask": rows,
        "expected_loss": logits.shape[:0],
        "expected_per_token": tokens,
        "expected_grad_student_logits": logits.shape,
    }.items():
        if name in arrays and arrays[name].shape != shape:
            raise ValueError(f"{name} of shape {list(arrays[name].shape)}, not {list(shape)}")


def _tolerance(case: Mapping[str, Any], name: str) -> float:
    """How far a case lets us be off; an endless one would pass whatever comes out."""
    value = case["tolerance"][name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"the tolerance {name} {value!r}, which is no number from 0 on")
    return float(value)


_AGGREGATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "token-mean": token_mean,
    "seq-mean-token-mean": sequence_mean,
    "seq-mean-token-sum": sequence_sum,
    "seq-mean-token-sum-norm": sequence_sum_norm,
}
_OF_A_TOKEN = ("student_logits", "teacher_logits", "old_log_probs", "rollout_is_weights")
_LOSS_SETTINGS = (
    "mode", "alpha", "distillation_topk", "add_tail", "is_clip", "temperature", "loss_agg_mode", "dtype",
)  # fmt: skip
_ARRAYS = (
    "student_logits", "teacher_logits", "responses", "response_mask", "self_distillation_mask", "old_log_probs",
    "rollout_is_weights", "student_topk_indices", "expected_loss", "expected_loss_float64", "expected_per_token",
    "expected_grad_student_logits",
)  # fmt: skip
_RULES = {
    "dont_reprompt_on_self_success": "exclude_self",
    "remove_thinking_from_demonstration": "strip_thinking",
    "include_environment_feedback": "use_feedback",
    "environment_feedback_only_without_solution": "feedback_only_without_solution",
    "reprompt_template": "template",
    "solution_template": "solution_template",
    "feedback_template": "feedback_template",
}
"""What the reference calls a setting of `TeacherRules`."""
_FIELDS = {"{successful_previous_attempt}": "{solution}", "{feedback_raw}": "{feedback}"}
"""What it calls the fields of a template."""


def _distillation(config: Mapping[str, Any]) -> Distillation:
    """The recorded configuration in our terms: there, alpha 0 and 1 stand for the one-sided divergences."""
    top_k: SupportKind = _chosen(
        config, "add_tail", {True: "topk_tail", False: "topk_renormalised"}
    )
    supports: dict[str, SupportKind] = {"full": "full", "topk": top_k, "sampled": "sampled"}
    ends: dict[float, DivergenceKind] = {0.0: "forward_kl", 1.0: "reverse_kl"}
    return Distillation(
        support=_chosen(config, "mode", supports),
        divergence=ends.get(config["alpha"], "jensen_shannon"),
        alpha=config["alpha"],
        top_k=config["distillation_topk"] or 1,
        importance_clip=config["is_clip"],
        temperature=config["temperature"],
    )


def _deviation(actual: Tensor, expected: Tensor) -> float:
    off = (actual.detach().double() - expected.double()).abs()
    return float(off.max()) if off.numel() else 0.0


def _check_prompt(case: Mapping[str, Any], defaults: Mapping[str, Any]) -> PromptCheck:
    config = {**defaults, **case["input"]["config"]}
    _only(("success_reward_threshold", *_RULES), config, "the setting")
    for theirs, ours in _FIELDS.items():
        config[f"{ours[1:-1]}_template"] = config[f"{ours[1:-1]}_template"].replace(theirs, ours)
    rules = TeacherRules(**{ours: config[theirs] for theirs, ours in _RULES.items()})
    given = case["input"]
    feedbacks = given["feedback"] or [None] * len(given["responses"])
    attempts = [
        Attempt(text=text, success=reward >= config["success_reward_threshold"], feedback=feedback)
        for text, reward, feedback in zip(
            given["responses"], given["rewards"], feedbacks, strict=True
        )
    ]
    prompts: list[TeacherPrompt | None] = [None] * len(attempts)
    groups = []
    for uid in dict.fromkeys(given["uids"]):
        members = [i for i, other in enumerate(given["uids"]) if other == uid]
        group = [attempts[i] for i in members]
        answers = teacher_prompts(given["prompts"][members[0]], group, rules)
        groups.append((group, answers))
        for i, answer in zip(members, answers, strict=True):
            prompts[i] = answer
    return PromptCheck(
        str(case["id"]),
        _prompt_difference(case["expected"], given["prompts"], prompts, coverage(groups, rules)),
    )


def _prompt_difference(
    expected: Mapping[str, Any],
    own_prompts: list[Any],
    prompts: list[TeacherPrompt | None],
    ours: Coverage,
) -> str | None:
    for i, prompt in enumerate(prompts):
        if (prompt is not None) != bool(expected["self_distillation_mask"][i]):
            return f"row {i}: mask must be {expected['self_distillation_mask'][i]}"
        messages = own_prompts[i] if prompt is None else list(prompt.messages)
        if messages != expected["teacher_messages"][i]:
            return f"row {i}: messages must be {expected['teacher_messages'][i]}, got {messages}"
    for name, value in {
        "success_group_fraction": ours.success_group_fraction,
        "success_sample_fraction": ours.solution_fraction,
        "feedback_available_fraction": ours.feedback_available_fraction,
        "feedback_used_fraction": ours.feedback_used_fraction,
        "reprompt_sample_fraction": ours.reprompted_fraction,
    }.items():
        if value != expected["metrics"]["self_distillation/" + name]:
            return f"{name} must be {expected['metrics']['self_distillation/' + name]}, got {value}"
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must be a readable JSON file, got {getattr(error, 'strerror', None) or error}; give a folder of "
            "recorded cases, such as tests/golden/sdpo of a checkout"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content
