"""Loads a policy: a base model, or one with an adapter on it."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.installation import install_command, make_command
from evaluator.doctor.gpu import compiler_problem
from evaluator.models.four_bit import keep_gradients_on_cpu, nf4_config
from evaluator.models.grouped_attention import share_keys_and_values
from evaluator.models.lora import ModelError, base_name, check_adapter
from evaluator.models.memory import is_out_of_memory, what_was_asked
from evaluator.models.named import check_model_name
from evaluator.models.objects import CausalModel, Tokenizer
from evaluator.models.unsloth_loader import CPU_SWITCH, load_with_unsloth
from evaluator.problems.user_code import set_chat_template
from evaluator.sampling.policy import Decoding, Policy, Sample, generate

if TYPE_CHECKING:
    import torch

__all__ = [
    "Decoding",
    "ModelError",
    "Policy",
    "Sample",
    "choose_device",
    "generate",
    "load_base",
    "load_policy",
]


def load_policy(
    model: str | None,
    *,
    adapter: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    load_in_4bit: bool = False,
    unsloth: bool = False,
    allow_other_base: bool = False,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    chat_template: Path | None = None,
) -> Policy:
    """Load a base model, or one with an adapter on it, for sampling.

    Args:
        model: folder or hub name; None takes the base model that the adapter names.
        adapter: PEFT adapter folder.
        device: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.
        dtype: `auto` (bfloat16 on CUDA, float32 on a CPU), `float32`, `bfloat16` or `float16`.
        load_in_4bit: quantise through bitsandbytes.
        unsloth: load through Unsloth; needs CUDA and the extra `gpu`.
        allow_other_base: accept an adapter whose base model bears another name or has weights in another
            number of bits; shapes must fit.
        chat_template_kwargs: given to the chat template beside the messages.
        chat_template: file with one in place of the tokenizer's.

    Raises:
        ModelError: unknown model, adapter of another model, or no such device.
        UserCodeError: the chat template cannot be used.
    """
    name = base_name(model, adapter)
    base, tokenizer = load_base(
        name,
        device=choose_device(device),
        dtype=dtype,
        load_in_4bit=load_in_4bit,
        unsloth=unsloth,
    )
    if chat_template is not None:
        set_chat_template(tokenizer, chat_template)
    if adapter is not None:
        check_adapter(
            adapter,
            base,
            tokenizer,
            name,
            load_in_4bit=load_in_4bit,
            allow_other_base=allow_other_base,
        )
        import peft

        base = peft.PeftModel.from_pretrained(base, str(adapter))
    base.eval()
    return Policy(
        base,
        tokenizer,
        name=name,
        adapter=str(adapter) if adapter else None,
        chat_template_kwargs=chat_template_kwargs or {},
    )


def load_base(
    name: str,
    *,
    device: str,
    dtype: str = "auto",
    load_in_4bit: bool = False,
    unsloth: bool = False,
    max_tokens: int | None = None,
) -> tuple[CausalModel, Tokenizer]:
    """Load a base model, by folder or hub name, and its tokenizer onto a device as `choose_device` returns it.

    `max_tokens` is the longest sequence that Unsloth prepares for, prompt and completion together; None is all that
    the model allows. Without Unsloth the model's own limit holds. For the others see `load_policy`.

    Raises:
        ModelError: it cannot be loaded; the message is one line.
    """
    check_model_name(name)
    _check_extras(device, load_in_4bit=load_in_4bit, unsloth=unsloth)
    with _one_line(name):
        import torch
        import transformers

        if device.startswith("cuda"):
            # From 2.11 on cuDNN's attention can give NaN gradients on an H100 or H200 (pytorch/pytorch#196678, with
            # a mask and 64, 192, 320, ... tokens). Two of four seeds ended at batches that fit this (docs/gpu.md).
            torch.backends.cuda.enable_cudnn_sdp(False)
        if dtype == "auto":
            dtype = "bfloat16" if device.startswith("cuda") else "float32"
        number_format = getattr(torch, dtype)
        # Unsloth's own tokenizer may have another padding token; the prompts are the same with and without it
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        if unsloth:
            model = load_with_unsloth(
                name, dtype=number_format, load_in_4bit=load_in_4bit, max_tokens=max_tokens
            )
        else:
            model = _load_with_transformers(name, device, number_format, load_in_4bit=load_in_4bit)
        if load_in_4bit:
            keep_gradients_on_cpu(model)
        return model, tokenizer


def choose_device(device: str) -> str:
    """Return the device to use; `auto` takes CUDA where there is one.

    Raises:
        ModelError: CUDA is asked for and not there.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            f"device must exist on this machine, got {device!r} without CUDA; use --device cpu"
        )
    return device


def _check_extras(device: str, *, load_in_4bit: bool, unsloth: bool) -> None:
    """Refuse what this machine or installation has not, before anything is read.

    Raises:
        ModelError: a package or Triton's compiler is missing, or Unsloth is asked for without CUDA.
    """
    if load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            "4-bit weights must have the package bitsandbytes, got none; install the extra `train`: "
            f"{install_command('train')}"
        )
    if not unsloth:
        return
    if not device.startswith("cuda") and os.environ.get(CPU_SWITCH) != "1":
        raise ModelError(
            f"Unsloth must run on CUDA, got device {device!r}; load without it (use_unsloth false)"
        )
    if importlib.util.find_spec("unsloth") is None:
        make = make_command("train-image EXTRAS=gpu")
        within = f" (for the training container: {make})" if make else ""
        raise ModelError(
            "Unsloth must be installed, got no package unsloth; install the extra `gpu`: "
            f"{install_command('gpu')}{within}, or load without it (use_unsloth false)"
        )
    if device.startswith("cuda") and (problem := compiler_problem()) is not None:
        raise ModelError(problem)


def _load_with_transformers(
    name: str,
    device: str,
    dtype: torch.dtype,
    *,
    load_in_4bit: bool,
) -> CausalModel:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    share_keys_and_values()
    options: dict[str, Any] = {"dtype": dtype}
    if load_in_4bit:
        options["quantization_config"] = nf4_config(dtype)
        options["device_map"] = {"": device}
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        name, output_loading_info=True, **options
    )
    if report["missing_keys"]:
        # transformers fills these with random numbers and only warns.
        raise ModelError(
            f"the model folder must hold every weight, got {name!r} without "
            f"{min(report['missing_keys'])!r} and {len(report['missing_keys']) - 1} more; "
            "restore its files"
        )
    placed: CausalModel = model if load_in_4bit else model.to(device)
    return placed


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Within the block whatever keeps a model from loading is a ModelError."""
    import safetensors
    from huggingface_hub.errors import StrictDataclassError
    from huggingface_hub.utils import logging as hub_logging

    # The error says it once; the hub client would log each of its retries as well.
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    # Missing files and the hub's errors are OSError; a broken config is any of the others.
    except (
        *(OSError, ValueError, TypeError, LookupError, AttributeError, AssertionError),
        *(StrictDataclassError, ImportError, RuntimeError, safetensors.SafetensorError),
    ) as error:
        raise ModelError(_load_failure(name, error)) from error


def _load_failure(name: str, error: BaseException) -> str:
    """One line for what can be many."""
    if is_out_of_memory(error):
        return (
            f"memory must hold the model {name!r}, got {what_was_asked(error)}; take a smaller model, 4-bit "
            "weights (--load-in-4bit, in a configuration load_in_4bit: true) or --dtype bfloat16"
        )
    if isinstance(error, json.JSONDecodeError):
        reason = f"damaged JSON, {error}"
    else:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
    return (
        f"the model must load from its folder or the hub, got {name!r} ({reason}); "
        "correct the name or restore its files"
    )
