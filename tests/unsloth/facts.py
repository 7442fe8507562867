"""`python facts.py stock|unsloth|fused MODEL BITS OUT`: what one stack computes of a fixed batch, as a file of tensors.

`fused` is Unsloth with its own LoRA in place of PEFT's.

Each stack has a process of its own: Unsloth patches transformers' classes for the whole process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import peft
import torch

from evaluator.models.lora import ModelError
from evaluator.sampling.generate import generate_rows
from evaluator.sampling.model import load_base
from trainer.step.forward import Rows, completion_hidden, completion_logits, output_head
from trainer.teacher.weights import EmaTeacher

PROMPT_LENGTHS = (11, 17, 5, 17)
N_TOKENS = 6
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def batch() -> Rows:
    """Left-padded prompts and right-padded completions of unequal lengths."""
    torch.manual_seed(0)
    width = max(PROMPT_LENGTHS)
    prompts = torch.zeros(4, width, dtype=torch.long)
    prompt_mask = torch.zeros_like(prompts)
    for row, length in enumerate(PROMPT_LENGTHS):
        prompts[row, width - length :] = torch.randint(5, 250, (length,))
        prompt_mask[row, width - length :] = 1
    completions = torch.randint(5, 250, (4, N_TOKENS))
    mask = torch.ones_like(completions)
    mask[1, 4:] = 0
    mask[2, 2:] = 0
    return Rows(prompts, prompt_mask, completions, mask)


def with_lora(model, *, fused: bool):
    """LoRA through PEFT, or through Unsloth's own function with its fused kernels; the same weights."""
    options = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none"}
    if fused:
        import unsloth

        model = unsloth.FastLanguageModel.get_peft_model(
            model, target_modules=TARGETS, use_gradient_checkpointing=False, **options
        )
    else:
        config = peft.LoraConfig(target_modules=TARGETS, task_type="CAUSAL_LM", **options)
        model = peft.get_peft_model(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.normal_(0.0, 0.1)
    return model


def facts_of(model, tokenizer, *, fused: bool) -> dict[str, object]:
    """Hidden states, logits, gradients, the teacher's states and greedy tokens; and Unsloth's flags."""
    rows = batch()
    real = rows.completion_mask.bool()
    found: dict[str, object] = {
        "layer": type(model.get_submodule("model.layers.0.mlp.up_proj")).__name__
    }
    model = with_lora(model, fused=fused)
    output_head(model)

    model.train()
    found["hidden, the very first forward, in training mode"] = completion_hidden(model, rows)[real]
    found["logits, in training mode"] = completion_logits(model, rows)[real]
    model.eval()
    found["hidden, in evaluation mode"] = completion_hidden(model, rows)[real]

    model.train()
    completion_hidden(model, rows)[real].float().pow(2).mean().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[f"gradient of {name}"] = parameter.grad.clone()
    model.zero_grad()

    teacher = EmaTeacher(model, rate=0.0)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    with torch.no_grad():
        found["hidden of the teacher"] = teacher.features(lambda: completion_hidden(model, rows))[
            real
        ]
        found["hidden of the moved student"] = completion_hidden(model, rows)[real]

    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    before = flags(model)
    prompts = [ids[mask.bool()].tolist() for ids, mask in zip(rows[0], rows[1], strict=True)]
    answers = generate_rows(
        model, tokenizer, prompts, rules=None, max_new_tokens=8, temperature=0.0, top_p=1.0, seed=1
    )
    found["greedy answers"] = [answer.text for answer in answers]
    found["flags before an evaluation"], found["flags after it"] = before, flags(model)
    return {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in found.items()}


def flags(model) -> list[tuple[object, ...]]:
    names = ("training", "gradient_checkpointing", "_flag_for_generation")
    return [tuple(vars(module).get(name) for name in names) for module in model.modules()]


def beyond_the_length(model) -> str:
    """What a sequence gets that is one token longer than the model was loaded for."""
    try:
        completion_hidden(model, batch())
    except ModelError as error:
        return str(error)
    return "accepted"


def main() -> None:
    stack, folder, bits, out = sys.argv[1:]
    if stack != "stock":
        from tests.unsloth.on_cpu import pretend_a_card, use_plain_kernels

        pretend_a_card()
        import unsloth  # noqa: F401  # after TRL, as in training

        use_plain_kernels()
        loader = sys.modules["unsloth.models.loader"]
        loader.get_model_name = lambda name, **_: (
            "another/model"
        )  # it maps a name to what it finds better

    def load(max_tokens=None):
        return load_base(
            folder, device="cpu", dtype="float32", load_in_4bit=bits == "4",
            unsloth=stack != "stock", max_tokens=max_tokens,
        )  # fmt: skip

    model, tokenizer = load()
    found = facts_of(model, tokenizer, fused=stack == "fused")
    if stack != "stock":
        fits = max(PROMPT_LENGTHS) + N_TOKENS
        found["at the length"] = beyond_the_length(load(fits)[0])
        found["beyond the length"] = beyond_the_length(load(fits - 1)[0])
    torch.save(found, Path(out))


if __name__ == "__main__":
    main()
