"""Evaluation mode within a block; afterwards every module is in its earlier mode."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from evaluator.models.objects import CausalModel

if TYPE_CHECKING:
    import torch


def switch_dropout_off(model: CausalModel) -> None:
    """Set every share that the model drops to 0, for good."""
    for module in model.modules():
        for holder, name in dropout_shares(module):
            setattr(holder, name, 0.0)


def dropout_shares(module: torch.nn.Module) -> list[tuple[object, str]]:
    """Where a module's own shares above 0 of what is dropped stand: (object, attribute).

    Some models drop by a module, some by a number that they read from themselves (Llama's attention) or from
    their configuration, which also holds those of heads that no causal model has.
    """
    import torch

    found: list[tuple[object, str]] = []
    if isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0:
        found.append((module, "p"))
    for holder in (module, vars(module).get("config")):
        found += [
            (holder, name)
            for name, value in getattr(holder, "__dict__", {}).items()
            if "drop" in name
            and not name.startswith(_OF_OTHER_HEADS)
            and isinstance(value, float)
            and value > 0
        ]
    return found


_OF_OTHER_HEADS = ("summary_", "classifier_", "classification_")

_FLAGS = ("training", "gradient_checkpointing", "_flag_for_generation")
"""Of a module. The last is Unsloth's: its fast decoding reads it."""


@contextlib.contextmanager
def evaluation_mode(model: CausalModel) -> Iterator[None]:
    """Within the block every module is in evaluation mode; afterwards each is as it was.

    `model.eval()` and `model.train(True)` are no pair: Unsloth's `generate` switches gradient checkpointing
    off in a model that is in evaluation mode and leaves it off, and a module that was frozen in
    evaluation mode would come back in training mode.
    """
    modules = list(model.modules())
    flags = [{name: vars(module).get(name) for name in _FLAGS} for module in modules]
    configs = {id(c): c for m in modules if (c := vars(m).get("config")) is not None}.values()
    caches = [(config, getattr(config, "use_cache", None)) for config in configs]
    model.eval()
    try:
        yield
    finally:
        for module, before in zip(modules, flags, strict=True):
            for name, value in before.items():
                if value is not None:
                    setattr(module, name, value)
                elif name in vars(module):
                    delattr(module, name)
        for config, use_cache in caches:
            if use_cache is not None:
                config.use_cache = use_cache
