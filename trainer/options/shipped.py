"""The configurations that come with this project: in a checkout beside the packages, in a wheel within this one."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

_TRAINER = Path(__file__).resolve().parents[1]


def folder() -> Path:
    """Return the folder that holds them."""
    within = _TRAINER / "configs"
    return within if within.is_dir() else _TRAINER.parent / "configs"


def names() -> list[str]:
    """Return the names that `--config` knows without a folder or ending: `grpo`, `sdpo` and so on."""
    return sorted(file.stem for file in folder().glob("*.yaml"))


def config_names(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return what a shell offers for `--config`: the shipped names, and files."""
    shipped = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
    return [*shipped, CompletionItem(incomplete, type="file")]


def config_path(given: Path) -> Path:
    """Return the file that `--config` means: the one that is there, else the shipped one of that name.

    So `configs/sdpo.yaml`, as the documentation writes it, and `sdpo` work from any folder.
    """
    if given.exists() or given.parent not in (Path(), Path("configs")):
        return given
    stem = given.name.removesuffix(".yaml")
    shipped = folder() / f"{stem}.yaml"
    return shipped if shipped.is_file() else given


def advice() -> str:
    """Return what to name in place of a file that is not there."""
    return f"name a file, or one of those shipped: {', '.join(names())}"
