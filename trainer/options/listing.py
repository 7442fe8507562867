"""What `train --options` prints: this project's options first, by subject, then those of TRL and transformers."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

import click
from transformers import TrainingArguments
from trl import GRPOConfig, ModelConfig

from trainer.options.config import BenchConfig


def option_list(width: int) -> str:
    """Return every option of a configuration file and the command line, no line longer than `width`."""
    formatter = click.HelpFormatter(width=width)
    for title, rows in _groups():
        with formatter.section(title):
            formatter.write_dl(rows, col_max=34)
    return formatter.getvalue().lstrip("\n")


def _groups() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each option once; one that a class takes over from another is in the first group that has it."""
    ours = {f.name: f for f in dataclasses.fields(BenchConfig)}
    for subject, names in subjects().items():
        yield f"sdpo-bench, {subject}", [_row(ours[name]) for name in names]
    shown = set(ours)
    for title, cls, of_base in (
        ("the model and its adapter (trl.ModelConfig)", ModelConfig, set()),
        (
            "GRPO (trl.GRPOConfig)",
            GRPOConfig,
            {f.name for f in dataclasses.fields(TrainingArguments)},
        ),
        ("the trainer (transformers.TrainingArguments)", GRPOConfig, set()),
    ):
        chosen = [f for f in dataclasses.fields(cls) if f.name not in shown | of_base]
        shown |= {f.name for f in chosen}
        yield title, [_row(field) for field in chosen]


def subjects() -> dict[str, list[str]]:
    """Return our options by subject: the comments that stand between them in the class are the headings.

    Raises:
        RuntimeError: an option stands above the first heading.
    """
    found: dict[str, list[str]] = {}
    fields = {field.name for field in dataclasses.fields(BenchConfig)}
    for line in inspect.getsource(BenchConfig).splitlines():
        if heading := re.fullmatch(r"    # (.+)", line):
            found[heading[1]] = []
        elif (option := re.match(r"    (\w+):", line)) and option[1] in fields:
            if not found:
                raise RuntimeError(
                    f"an option must stand below a heading, got {option[1]}; give it one"
                )
            found[list(found)[-1]].append(option[1])
    return {heading: names for heading, names in found.items() if names}


def _row(field: dataclasses.Field[Any]) -> tuple[str, str]:
    """An option, and what it is with its default."""
    text = " ".join(str(field.metadata.get("help", "")).split()).replace("%%", "%").rstrip(". ")
    default = field.default
    if default is dataclasses.MISSING:
        factory = field.default_factory
        default = None if factory is dataclasses.MISSING else factory()
    shown = " ".join(str(getattr(default, "value", default)).split())
    return f"--{field.name}", f"{text}.  [default: {shown}]".lstrip(". ")
