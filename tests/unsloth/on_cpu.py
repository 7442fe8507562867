"""Unsloth's CUDA path on a CPU: its own CI switch, a card that is made up, and plain torch for its Triton kernels.

`pretend_a_card` goes before Unsloth is imported, `use_plain_kernels` after. What is then tested is Unsloth's
Python: the patched attention, backbone, decoding and bookkeeping that a GPU machine runs. What is not: its Triton
kernels, bitsandbytes' CUDA kernels, memory and time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import types

import torch

CARD = types.SimpleNamespace(
    name="NVIDIA GeForce RTX 3080", total_memory=10 * 2**30, major=8, minor=6,
    multi_processor_count=68,
)  # fmt: skip


class _NoDevice(contextlib.nullcontext):
    """In place of torch.cuda.device, which would start CUDA."""

    def __init__(self, *_: object) -> None:
        super().__init__()


def pretend_a_card() -> None:
    """Answer what Unsloth asks of the card while it is imported and loads a model."""
    os.environ["UNSLOTH_ALLOW_CPU"] = "1"
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", tempfile.mkdtemp(prefix="sdpo-bench-"))
    for switch in ("UNSLOTH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE"):
        os.environ[switch] = "1"
    torch.cuda.get_device_capability = lambda *_: (CARD.major, CARD.minor)
    torch.cuda.get_device_properties = lambda *_: CARD
    torch.cuda.get_device_name = lambda *_: CARD.name
    torch.cuda.current_device = lambda: 0
    torch.cuda.mem_get_info = lambda *_: (9 * 2**30, CARD.total_memory)
    torch.cuda.device = _NoDevice
    torch.cuda.empty_cache = lambda: None
    torch.cuda.synchronize = lambda *_: None


def patch_trainers() -> None:
    """Have Unsloth rewrite TRL's trainers, as its import does on a card and leaves out under its CI switch."""
    from unsloth.models import rl
    from unsloth.models.llama import FastLlamaModel

    os.environ["UNSLOTH_ALLOW_CPU"] = "0"
    try:
        rl.PatchFastRL(FastLanguageModel=FastLlamaModel)
    finally:
        os.environ["UNSLOTH_ALLOW_CPU"] = "1"


def use_plain_kernels() -> None:
    """Put tensors on the CPU and compute norm, rotary embedding and 4-bit products with torch."""
    import unsloth.models.llama as llama

    in_its_place = {
        "DEVICE_TYPE_TORCH": "cpu",
        "get_current_device": lambda: "cpu",
        "SUPPORTS_BFLOAT16": True,
        "DEVICE_COUNT": 1,
        "ALLOW_BITSANDBYTES": True,
        "fast_rms_layernorm": _rms_norm,
        "fast_rope_embedding": _rotary_embedding,
        "fast_linear_forward": _linear,
        "swiglu_fg_kernel": _swiglu,
        "swiglu_DWf_DW_dfg_kernel": _swiglu_backward,
    }
    for name, module in list(sys.modules.items()):
        if name.startswith("unsloth") and module is not None:
            for key, value in in_its_place.items():
                if key in vars(module):
                    setattr(module, key, value)

    # caches of the rotary embedding are kept by index of the card; a CPU has none
    cache = llama._PerDeviceRopeCache
    ensure = cache._ensure_rope_cache
    cached = llama.LlamaRotaryEmbedding.get_cached

    def build(self, device_index):
        size = self.current_rope_size
        with self._rope_build_mode():
            self._set_cos_sin_cache(
                seq_len=self._rope_cache_rows(),
                device=torch.device("cpu", 0),
                dtype=self._rope_cache_dtype,
            )
        self.current_rope_size = size
        self._rope_cache_versions[device_index] = self._rope_cache_version
        self._mark_rope_build(device_index)

    cache._build_rope_cache = build
    cache._ensure_rope_cache = lambda self, _: ensure(self, 0)
    cache.get_cached = lambda self, n, _=None: cached(self, n, 0)
    llama.LlamaRotaryEmbedding.get_cached = cache.get_cached


def _rms_norm(layernorm, hidden, *_, **__):
    exact = hidden.float()
    exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + layernorm.variance_epsilon)
    return layernorm.weight * exact.to(hidden.dtype)


def _rotary_embedding(query, key, cos, sin, rope_embedding_indices=None):
    cos, sin = cos.to(query.device), sin.to(query.device)
    if rope_embedding_indices is None:
        n_tokens = query.shape[-2]
        cos, sin = cos[:n_tokens][None, None], sin[:n_tokens][None, None]
    else:
        rows = rope_embedding_indices.long()
        cos, sin = cos[rows][:, None], sin[rows][:, None]
    if cos.shape[-1] != query.shape[-1]:
        cos, sin = torch.cat([cos, cos], -1), torch.cat([sin, sin], -1)
    half = query.shape[-1] // 2

    def turned(x):
        rotated = torch.cat([-x[..., half:], x[..., :half]], -1)
        return (x * cos + rotated * sin).to(x.dtype)

    return turned(query), turned(key)


def _linear(proj, hidden, temp_lora=None, out=None):
    """One token's projection while decoding: through the layer itself, LoRA and 4 bits included."""
    result = proj(hidden).to(hidden.dtype)
    return result if out is None else out.copy_(result)


def _swiglu(gate, up):
    return torch.nn.functional.silu(gate.float()).to(gate.dtype) * up


def _swiglu_backward(grad, gate, up):
    """What its kernel writes into its three arguments: the product, d up, d gate."""
    exact = gate.float()
    share = torch.sigmoid(exact)
    activated = (share * exact).to(grad.dtype)
    d_gate = ((grad * up).float() * share * (1.0 + exact * (1.0 - share))).to(grad.dtype)
    product, d_up = activated * up, grad * activated
    grad.copy_(product), gate.copy_(d_up), up.copy_(d_gate)
    return grad, gate, up
