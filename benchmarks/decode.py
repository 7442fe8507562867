"""Measures sampling with transformers' own attention and with that which copies no keys and values, in turns.

    python -m benchmarks.decode --model DIR

The figure is CPU time of this process, the prompts' included. Set OMP_NUM_THREADS=1 on a busy machine.
"""

from __future__ import annotations

import time

import click
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

from evaluator.models.grouped_attention import grouped_attention
from evaluator.sampling.model import load_base

FORMS = {"repeated": sdpa_attention_forward, "shared": grouped_attention}


@click.command()
@click.option("--model", required=True, help="Folder or hub name.")
@click.option("--dtype", default="bfloat16", show_default=True)
@click.option("--rows", default=16, show_default=True, help="Prompts at once.")
@click.option("--tokens", default=32, show_default=True, help="New tokens of each.")
@click.option("--rounds", default=2, show_default=True)
def main(*, model: str, dtype: str, rows: int, tokens: int, rounds: int) -> None:
    """Measure one sampling in two ways, in turns."""
    policy, tokenizer = load_base(model, device="cpu", dtype=dtype)
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    sentence = "Write a python function that adds numbers and more. "
    prompts = [sentence * (6 + i % 8) for i in range(rows)]
    inputs = dict(tokenizer(prompts, return_tensors="pt", padding=True))
    inputs.pop("token_type_ids", None)
    for number in range(rounds):
        seconds = {}
        for name, attention in FORMS.items():
            AttentionInterface.register("sdpa", attention)
            started = time.process_time()
            with torch.no_grad():
                policy.generate(
                    **inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
                )
            seconds[name] = time.process_time() - started
        ratio = seconds["shared"] / seconds["repeated"]
        figures = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
        click.echo(f"round {number + 1}: {figures}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
