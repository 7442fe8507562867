"""Merges the adapter into the base weights while rollouts are sampled, saving two small products a layer and token.

On a CPU a token of a small model costs as much in calls as in arithmetic: one decoding step of SmolLM2-135M with 16
rows took 0.25 s of CPU time with a rank-16 adapter beside all linear layers and 0.20 s with it merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer

from evaluator.models.objects import CausalModel


@contextmanager
def merged_adapter(model: CausalModel) -> Iterator[None]:
    """Within the block the base weights hold the adapter; afterwards all is to the bit as it was.

    Only where a sum of both is no coarser than the two apart (float32). Elsewhere nothing is done. It takes a
    second copy of the adapted weights meanwhile.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    weights = [layer.get_base_layer().weight for layer in layers if _can_be_merged(layer)]
    if not layers or len(weights) < len(layers) or _serve_others(model, weights):
        yield
        return
    apart = [weight.data for weight in weights]
    try:
        with torch.no_grad():
            for layer, weight in zip(layers, weights, strict=True):
                (adapter,) = layer.active_adapters
                weight.data = weight.data + layer.get_delta_weight(adapter)
                layer.merged_adapters = [adapter]
        yield
    finally:
        for layer, weight, data in zip(layers, weights, apart, strict=True):
            # not PEFT's unmerge, which subtracts: the sum was rounded
            weight.data, layer.merged_adapters = data, []


def _serve_others(model: CausalModel, weights: list[Any]) -> bool:
    """Whether a weight stands in a second module, as a head's in the embeddings: that would be changed with it."""
    merged = {id(weight) for weight in weights}
    holders = [
        id(parameter)
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
        if id(parameter) in merged
    ]
    return len(holders) > len(weights)


def _can_be_merged(layer: Any) -> bool:  # noqa: ANN401
    if type(layer) is not Linear or type(layer.get_base_layer()) is not torch.nn.Linear:
        return False
    weight = layer.get_base_layer().weight
    return bool(
        weight.dtype == torch.float32
        and len(layer.active_adapters) == 1
        and layer.active_adapters[0] in layer.lora_A
        and not layer.merged
        and not layer.disable_adapters
        and not any(layer.use_dora.values())
        and not any(layer.lora_bias.values())
    )
