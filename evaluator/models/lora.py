"""Checks that an adapter belongs to a base model before it is loaded onto it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evaluator.models.objects import CausalModel, Tokenizer

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_TRAINED_ON = "trained_on.json"
"""Beside the adapter: the base it was trained on, in which precision. PEFT's own file does not say it."""


class ModelError(Exception):
    """The model or adapter cannot be used as asked; the message says what to do."""


def record_base(adapter: Path, *, model: str, load_in_4bit: bool) -> None:
    """Write beside an adapter on which base model it was trained, and whether that was in 4 bits."""
    content = {"model": model, "load_in_4bit": load_in_4bit}
    (adapter / _TRAINED_ON).write_text(json.dumps(content, indent=1), encoding="utf-8")


def base_name(model: str | None, adapter: Path | None) -> str:
    """Return the model that is meant: the one named, or the base of the adapter.

    Raises:
        ModelError: neither is given, or the adapter's base cannot be read.
    """
    if model:
        return model
    if adapter is None:
        raise ModelError("a model must be named, got none; pass its folder or hub name")
    return _named_base(adapter)


def rank(adapter: Path) -> int:
    """Return the rank of a LoRA adapter.

    Raises:
        ModelError: no adapter there, or it names no rank.
    """
    found = _read_config(adapter).get("r")
    if not isinstance(found, int):
        raise ModelError(
            f"the adapter must name its rank r in {_CONFIG}, got {found!r} in {str(adapter)!r}; name the folder that "
            "training wrote"
        )
    return found


def _named_base(adapter: Path) -> str:
    name = _read_config(adapter).get("base_model_name_or_path")
    if not name:
        raise ModelError(
            f"the adapter must name its base model, got none in {str(adapter)!r}; "
            "pass the base model by --model"
        )
    return str(name)


def check_adapter(
    adapter: Path,
    base: CausalModel,
    tokenizer: Tokenizer,
    name: str,
    *,
    load_in_4bit: bool,
    allow_other_base: bool = False,
) -> None:
    """Refuse an adapter that was trained on another model, precision or vocabulary.

    PEFT itself loads what fits and only warns about the rest, and two models of one family have the
    same shapes: names are compared as well. An adapter also makes up for the error of the 4-bit weights
    that it was trained on, which others do not have.

    Raises:
        ModelError: it does not belong to this model.
    """
    trained_on = _named_base(adapter)
    advice = "name the model it was trained on by --model"
    if not allow_other_base:
        if Path(trained_on).name.lower() != Path(name).name.lower():
            raise ModelError(
                f"the adapter's base model must be the model, got an adapter of {trained_on!r} for "
                f"{name!r}; {advice}, or pass --allow-other-base if it is the same under another name"
            )
        _check_precision(adapter, load_in_4bit=load_in_4bit)
    for key, shape in _weight_shapes(adapter).items():
        problem = _misfit(key, shape, base)
        if problem is not None:
            raise ModelError(
                f"the adapter must fit the model {name!r}, got {problem} in {str(adapter)!r}; "
                f"{advice}"
            )
    _check_vocabulary(adapter, tokenizer, name)


def _read_config(adapter: Path) -> dict[str, Any]:
    path = adapter / _CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"no JSON object but {type(config).__name__}")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"an adapter folder must hold a readable {_CONFIG}, got {str(adapter)!r} "
            f"({_first_line(error)}); name the folder that training wrote"
        ) from error
    return config


def _check_precision(adapter: Path, *, load_in_4bit: bool) -> None:
    """Refuse an adapter of a 4-bit base on a 16-bit one, and the reverse; one that says nothing passes."""
    try:
        trained_in_4bit = json.loads((adapter / _TRAINED_ON).read_text())["load_in_4bit"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if bool(trained_in_4bit) == load_in_4bit:
        return
    bits, trained_bits, advice = (
        (4, 16, "leave --load-in-4bit out") if load_in_4bit else (16, 4, "pass --load-in-4bit")
    )
    raise ModelError(
        f"the adapter's base must be loaded as in training, got {bits}-bit weights for {str(adapter)!r}, which was "
        f"trained on {trained_bits}-bit ones; {advice}, or pass --allow-other-base to evaluate it on these"
    )


def _weight_shapes(adapter: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the adapter's tensors, from the file's header alone."""
    import safetensors

    path = adapter / _WEIGHTS
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(
            f"an adapter folder must hold a whole {_WEIGHTS}, got {str(adapter)!r} "
            f"({_first_line(error)}); name the folder that training wrote"
        ) from error


def _misfit(key: str, shape: tuple[int, ...], base: CausalModel) -> str | None:
    """Why one tensor does not fit the model; None where it does or cannot be told."""
    path = key.removeprefix("base_model.model.")
    for marker, axis, size_name in (
        (".lora_A.", 1, "in_features"),
        (".lora_B.", 0, "out_features"),
    ):
        if marker not in path:
            continue
        module_name = path.split(marker)[0]
        try:
            module = base.get_submodule(module_name)
        except AttributeError:
            return f"weights for {module_name!r}, which the model has not"
        size = getattr(module, size_name, None)
        if size is not None and len(shape) == 2 and shape[axis] != size:
            return f"{module_name!r} with {size_name} {shape[axis]} where the model has {size}"
    return None


def _check_vocabulary(adapter: Path, tokenizer: Tokenizer, name: str) -> None:
    if not (adapter / "tokenizer.json").is_file():
        return
    from transformers import AutoTokenizer

    try:
        saved = AutoTokenizer.from_pretrained(str(adapter))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the adapter's tokenizer must load, got {str(adapter)!r} ({_first_line(error)}); "
            "restore its files"
        ) from error
    if saved.get_vocab() != tokenizer.get_vocab():
        raise ModelError(
            f"the adapter must have the vocabulary of the model {name!r}, got {len(saved)} tokens "
            f"against {len(tokenizer)} in {str(adapter)!r}; name the model it was trained on by "
            "--model"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
