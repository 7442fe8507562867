"""What two runs must share before a difference between them can be called one of their methods.

Everything that a run stores of itself is compared by name, except what cannot move a figure (where files
go, how often something is printed) and the seed, which is what repeats a run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analysis.records import RunInfo

METHOD_SETTINGS = frozenset(
    "teacher ema_rate trust_region_rate teacher_context success_threshold exclude_self strip_thinking "
    "use_feedback feedback_only_without_solution max_teacher_prompt_tokens teacher_template "
    "solution_template feedback_template support divergence alpha distill_top_k importance_clip "
    "aggregation hybrid_lambda problem_weight advantage_clip advantage_mix advantage_mix_steps "
    "anchor_weight loss_type scale_rewards beta epsilon epsilon_high delta importance_sampling_level "
    "mask_truncated_completions".split()
)
"""What an algorithm brings: its loss and its teacher. Between methods these may differ."""

WITHOUT_EFFECT = frozenset(
    "label runs_dir mbpp_dir evaluate_every eval_dataset eval_max_problems eval_samples eval_batch "
    "calibration_problems allow_uncalibrated fault_patience_s token_stats_every sandbox seed data_seed "
    "output_dir run_name report_to disable_tqdm project push_to_hub do_eval do_predict do_train "
    "num_completions_to_print num_generations_eval prediction_loss_only per_device_eval_batch_size "
    "resume_from_checkpoint restore_callback_states_from_checkpoint enable_jit_checkpoint local_rank "
    "load_best_model_at_end metric_for_best_model greater_is_better skip_memory_metrics debug "
    "include_num_input_tokens_seen include_for_metrics batch_eval_metrics decoding "
    "model_name_or_path dataset reward feedback chat_template prompt_template".split()
)
"""Settings that move no figure, that repeat a run (the seed), or that are compared apart (model, problems)."""

_PREFIXES_WITHOUT_EFFECT = (
    *("hub_", "log_", "logging_", "save_", "eval_", "trackio_", "ddp_", "vllm_server_"),
    *("dataloader_num", "dataloader_pin", "dataloader_pre", "dataloader_pers", "dataloader_mul"),
)
_PARTS_OF_A_CONFIG = ("bench", "training", "model")
_PACKAGES = ("torch", "transformers", "trl", "peft", "unsloth", "bitsandbytes")
"""Whose versions decide what a training step computes."""
SAMPLING_PACKAGES = ("torch", "transformers")
"""Whose versions decide what an answer is drawn from."""
_FIRST = ("runs", "model", "adapter", "training problems", "learning_rate", "max_steps", "step")
"""Differences that are named before the others."""


@dataclass(frozen=True)
class Conditions:
    """What one policy was made and evaluated under, as text by name."""

    algorithm: str | None
    """None where nothing was trained."""
    method: Mapping[str, str]
    """What the algorithm brings."""
    rest: Mapping[str, str]
    """Everything else that may move a figure."""
    evaluated: Mapping[str, str] = field(default_factory=dict)
    """How its answers were drawn and graded: what is known of that. An untrained policy has nothing else."""


UNKNOWN = Conditions(None, {}, {})
"""Of something of which no run tells."""


def conditions(
    info: RunInfo,
    *,
    step: int | None = None,
    evaluation: RunInfo | None = None,
    problems: tuple[str, str | None] | None = None,
) -> Conditions:
    """Return what a policy was made and evaluated under.

    Args:
        info: of the run that trained the policy, or of the evaluation where nothing was trained.
        step: optimizer step of the evaluated policy; None where it is the last.
        evaluation: of the run that evaluated it; None where that is the same.
        problems: name of the evaluated set and sha256 of its content, where the evaluation tells.
    """
    told = _evaluated(evaluation or info)
    if problems is not None and problems[1] is not None:
        told["problems"] = _content(problems[0], problems[1])
    evaluated = _known(told)
    if info.algorithm is None:
        return Conditions(None, {}, _known({"adapter": info.adapter}), evaluated)
    settings = _settings(info.config)
    found: dict[str, object] = {
        "model": _model(info),
        "sandbox": _sandbox(info.sandbox),
        "code version": info.code_version,
        "step": step,
        "training problems": _content(info.dataset, info.dataset_sha256),
        "prompt form": _content(info.protocol, info.protocol_sha256),
        "reward": _own(info.reward_function, info.reward_sha256),
        "feedback": _own(info.feedback_function, info.feedback_sha256),
        "chat template": info.chat_template_sha256,
    }
    found |= {f"version of {name}": info.packages.get(name) for name in _PACKAGES}
    found |= {name: value for name, value in settings.items() if name not in METHOD_SETTINGS}
    brought = {name: value for name, value in settings.items() if name in METHOD_SETTINGS}
    return Conditions(info.algorithm, _known(brought), _known(found), evaluated)


def differences(first: Sequence[Conditions], second: Sequence[Conditions]) -> tuple[str, ...]:
    """Name what differs between two sides beside their methods, with the values of each.

    An untrained policy is compared by how it was evaluated: the rest comes with the training. Two untrained
    policies are compared as they are: their models and adapters may differ.
    """
    one, other = first[0], second[0]
    both_trained = one.algorithm is not None and other.algorithm is not None
    names = set(one.rest) | set(other.rest) if both_trained else set()
    differing = [name for name in names if one.rest.get(name) != other.rest.get(name)]
    found = [_described(name, [one.rest, other.rest]) for name in _in_order(differing)]
    but = {"model"} if one.algorithm is None and other.algorithm is None else set()
    return (*found, *_evaluated_otherwise([*first, *second], but={*differing, *but}))


def mixed(side: Sequence[Conditions]) -> tuple[str, ...]:
    """Name what differs within one side, whose runs must be alike in all but the seed."""
    algorithms = {str(each.algorithm) for each in side}
    if len(algorithms) > 1:
        return (f"algorithm ({', '.join(sorted(algorithms))})",)
    flat = [{**each.method, **each.rest} for each in side]
    # An adapter whose run is not at hand may be of another seed: its path alone is no difference.
    names = {name for each in flat for name in each} - {"adapter"}
    differing = [name for name in names if len({each.get(name) for each in flat}) > 1]
    found = [_described(name, flat) for name in _in_order(differing)]
    return (*found, *_evaluated_otherwise(side, but=set(differing)))


def _evaluated_otherwise(policies: Sequence[Conditions], *, but: set[str]) -> list[str]:
    """Name what differs between evaluations, among those that tell of it; not what is named already."""
    names = {name for each in policies for name in each.evaluated} - but
    told = {name: [each.evaluated for each in policies if name in each.evaluated] for name in names}
    differing = [name for name in names if len({each[name] for each in told[name]}) > 1]
    return [f"evaluated with {_described(name, told[name])}" for name in _in_order(differing)]


def listed(names: Sequence[str], most: int = 4, apart: str = ", ") -> str:
    """Some names, the rest counted."""
    more = len(names) - most
    return apart.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _described(name: str, sides: Sequence[Mapping[str, str]]) -> str:
    """A difference with its values, each once."""
    values = (each.get(name, "not set") for each in sides)
    shown = (value if len(value) <= 60 else f"{value[:57]}..." for value in values)
    return f"{name} ({', '.join(dict.fromkeys(shown))})"


def _in_order(names: Sequence[str]) -> list[str]:
    """What a reader asks for first, then the alphabet."""
    return sorted(names, key=lambda name: (_FIRST.index(name) if name in _FIRST else 99, name))


def _evaluated(info: RunInfo) -> dict[str, object]:
    """How a run evaluates; None where it does not say."""
    settings = _flat(info.config)
    found: dict[str, object] = {
        "model": _model(info),
        "sandbox": _sandbox(info.sandbox),
        "code version": info.code_version,
        "timeout_s": settings.get("timeout_s"),
        "dtype": _dtype(info, settings),
        "load_in_4bit": settings.get("load_in_4bit"),
        "chat template": info.chat_template_sha256,
    }
    if info.chat_template_sha256 is None and settings.get("chat_template", "") is None:
        found["chat template"] = "the model's"
    if "chat_template_kwargs" in settings:
        found["chat_template_kwargs"] = settings["chat_template_kwargs"] or {}
    packages: Mapping[str, str] = info.packages
    if isinstance(sampled := settings.get("sampled"), Mapping):  # its answers were graded again
        found["code version"] = f"{sampled.get('code_version')}, graded by {info.code_version}"
        packages = sampled.get("packages") or {}
    found |= {f"version of {name}": packages.get(name) for name in SAMPLING_PACKAGES}
    if info.kind == "eval":  # else these are of the training
        found["problems"] = _content(info.dataset, info.dataset_sha256)
        found["prompt form"] = _content(info.protocol, info.protocol_sha256)
        engine = "a server" if settings.get("api_base") else settings.get("engine")
        found["engine"] = "local" if engine == "ray" else engine
    return found


def _dtype(info: RunInfo, settings: Mapping[str, object]) -> object:
    """Number format of the weights: as it was asked for, else as it was found."""
    asked = settings.get("dtype")
    return info.hardware.get("dtype") if asked in (None, "auto") else asked


def _settings(config: Mapping[str, object]) -> dict[str, object]:
    """What of a stored configuration may move a figure, by the names that the command line takes."""
    return {
        name: value
        for name, value in _flat(config).items()
        if name not in WITHOUT_EFFECT and not name.startswith(_PREFIXES_WITHOUT_EFFECT)
    }


def _flat(config: Mapping[str, object]) -> dict[str, object]:
    """The stored configuration without its parts."""
    flat: dict[str, object] = {}
    for key, value in config.items():
        if key in _PARTS_OF_A_CONFIG and isinstance(value, Mapping):
            flat |= {str(name): each for name, each in value.items()}
        else:
            flat[key] = value
    return flat


def _known(found: Mapping[str, object]) -> dict[str, str]:
    """As text; what is not set is left out."""
    return {name: str(value) for name, value in found.items() if value is not None}


def _model(info: RunInfo) -> str | None:
    """The weights where their content is known, else the name."""
    if info.model is None or info.model_sha256 is None:
        return info.model
    return f"{Path(info.model).name} (sha256 {info.model_sha256[:12]})"


def _content(name: str, sha256: str) -> str:
    return name if sha256 == "unknown" else f"{name} (sha256 {sha256[:12]})"


def _own(name: str | None, sha256: str | None) -> str | None:
    """A function of a person's own, by its name within its file and the file's content, not by its path."""
    return None if name is None or sha256 is None else f"{name.rpartition(':')[2]} ({sha256[:12]})"


def _sandbox(name: str) -> str | None:
    """What judged programs: an image by its content where that is told, since one built again has another id."""
    if name == "unknown":
        return None
    return re.sub(r"sha256:[0-9a-f]+ (?=guest [0-9a-f]+ )", "", name)
