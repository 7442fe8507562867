"""Evaluation mode for a while: what it switches off is afterwards on again, module by module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_FLAGS = ("training", "gradient_checkpointing", "_flag_for_generation")
"""Of a module. The last is Unsloth's: its fast decoding reads it."""


@contextlib.contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:  # noqa: ANN401 - any causal model
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
