"""Loads a model through Unsloth, exactly the one that is named; the only importer of unsloth.

LoRA goes on through PEFT, not through Unsloth's own `get_peft_model`: then one path is trained with and without
Unsloth, in 4 and in 16 bits, and a CPU can prove it equal to stock transformers. What is given up are Unsloth's
fused LoRA kernels (docs/gpu.md); its attention, norms, rotary embedding and decoding remain.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING

from evaluator.models.four_bit import is_four_bit
from evaluator.models.lora import ModelError
from evaluator.models.objects import CausalModel

if TYPE_CHECKING:
    import torch

CPU_SWITCH = "UNSLOTH_ALLOW_CPU"
"""Unsloth's own switch for its tests: 1 lets it import without a GPU."""
_COMPILED = "UNSLOTH_COMPILE_LOCATION"
"""Folder of the modules that Unsloth compiles."""


def load_with_unsloth(
    name: str,
    *,
    dtype: torch.dtype,
    load_in_4bit: bool,
    max_tokens: int | None,
) -> CausalModel:
    """Load a base model, by folder or hub name, through Unsloth, ready to train and to sample.

    `dtype` is that of the weights, of the arithmetic where they are in 4 bits. `max_tokens` is the longest sequence,
    prompt and completion together; None is all that the model's configuration allows. Never more than that: Unsloth
    would stretch the rotary embedding.

    Raises:
        ModelError: another model was loaded than the one named, or in 16 bits where 4 were asked; a tokenizer
            that pads with its end token.
    """
    import transformers

    context = getattr(
        transformers.AutoConfig.from_pretrained(name), "max_position_embeddings", None
    )
    limits = [limit for limit in (max_tokens, context) if limit is not None]
    if _COMPILED not in os.environ:
        # else it writes what it compiles into the working directory, which need not be writable
        os.environ[_COMPILED] = tempfile.mkdtemp(prefix="sdpo-bench-")
        atexit.register(shutil.rmtree, os.environ[_COMPILED], ignore_errors=True)
    model: CausalModel
    with contextlib.redirect_stdout(sys.stderr):  # its banner is no part of any command's output
        import unsloth

        try:
            model, _ = unsloth.FastLanguageModel.from_pretrained(
                model_name=name,
                max_seq_length=min(limits, default=None),
                dtype=dtype,
                load_in_4bit=load_in_4bit,
                # else "Qwen/x" in 4 bits becomes "unsloth/x-unsloth-bnb-4bit", other weights under another name
                use_exact_model_name=True,
                # transformers' own checkpointing, which the trainer switches on; "unsloth" moves activations to
                # pinned memory, which no CPU can check
                use_gradient_checkpointing=False,
                # the loss reads the head's weight, which may be the embedding's
                offload_embedding=False,
            )
        except RuntimeError as error:
            if "pad token" not in str(error):
                raise
            raise ModelError(
                f"Unsloth wants a padding token that is not the end token, got one and the same in {name!r}; set "
                "pad_token in its tokenizer_config.json, or load without Unsloth (use_unsloth false)"
            ) from error
    _refuse_another(model, name, load_in_4bit=load_in_4bit)
    keep_padding_mask(model)
    return model


def _refuse_another(model: CausalModel, name: str, *, load_in_4bit: bool) -> None:
    loaded = str(model.config._name_or_path)
    if loaded != name:
        raise ModelError(
            f"the model that is loaded must be the one named, got {loaded!r} for {name!r}; name {loaded!r}, "
            "or load without Unsloth (use_unsloth false)"
        )
    if load_in_4bit and not is_four_bit(model):
        raise ModelError(
            "the weights must be in 4 bits as asked, got 16 bits: Unsloth finds bitsandbytes unusable here and "
            "goes on without it; run `python -m bitsandbytes`, or set load_in_4bit false"
        )


def keep_padding_mask(model: CausalModel) -> None:
    """Have Unsloth's backbones respect the attention mask in training mode, whatever was called before.

    They drop it unless the last pass through the causal model had no labels; a loss that calls the
    backbone would depend on that. Unsloth's own PPO and distillation trainers set the same flag.
    """
    for module in model.modules():
        if hasattr(module, "embed_tokens"):
            module._unsloth_keep_padding_mask = True
