"""Finds out from a model's or adapter's name alone that it cannot be there, before anything heavy is imported."""

from __future__ import annotations

import re
from pathlib import Path

from evaluator.models.lora import ModelError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def check_model_name(name: str) -> None:
    """Refuse a name that is neither a folder here nor one that the hub could know.

    Raises:
        ModelError: with one line for the user.
    """
    folder = Path(name)
    if folder.is_file():
        raise ModelError(
            f"the model must be a folder with config.json and weights, got the file {name!r}; name its folder"
        )
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            is_adapter = (folder / "adapter_config.json").is_file()
            advice = (
                "it is an adapter: name it by --adapter"
                if is_adapter
                else "name a folder that save_pretrained wrote"
            )
            raise ModelError(f"a model folder must hold config.json, got {name!r}; {advice}")
    elif not _HUB_NAME.fullmatch(name):
        raise ModelError(
            f"the model must be an existing folder or a hub name, got {name!r}; correct the path"
        )


def check_adapter_folder(folder: Path) -> None:
    """Refuse a folder that holds no LoRA adapter.

    Raises:
        ModelError: with one line for the user.
    """
    if (folder / "adapter_config.json").is_file():
        return
    within = folder / "adapter"
    advice = f"name {str(within)!r}" if within.is_dir() else "correct the path"
    got = "without one" if folder.is_dir() else "which is not there"
    raise ModelError(
        f"the adapter's folder must hold a readable adapter_config.json, got {str(folder)!r} {got}; {advice}"
    )
