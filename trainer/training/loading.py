"""Loads the policy that a run trains, with the prompt form that it is asked in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.models.context_length import context_length
from evaluator.models.objects import CausalModel, Tokenizer
from evaluator.models.padding import check_padding
from evaluator.problems.problem import ProblemSet
from evaluator.problems.user_code import check_chat_template, set_chat_template
from evaluator.sampling.decoding import check_tokens, end_ids, pad_id
from evaluator.sampling.model import choose_device, load_base
from trainer.options.config import ConfigError, Options
from trainer.options.prompting import Asking, ask_plainly, asking


@dataclass(frozen=True)
class Loaded:
    """The policy before its first step."""

    model: CausalModel
    tokenizer: Tokenizer
    name: str
    """Folder or hub name of the model."""
    form: Asking
    """How the problems of the training are asked."""
    is_plain: bool
    """Whether the tokenizer came without a chat template; it has a plain one as long as the run lasts."""


def load(options: Options, problems: ProblemSet) -> Loaded:
    """Load model and tokenizer, and refuse problems that do not fit the model.

    Raises:
        ConfigError, DatasetError, ModelError, UserCodeError: with one line for the user.
    """
    model, tokenizer = load_model(options)
    name_tokens(tokenizer, model)
    if options.bench.chat_template is not None:
        set_chat_template(tokenizer, Path(options.bench.chat_template))
    is_plain = not tokenizer.chat_template
    if not is_plain:
        check_chat_template(tokenizer, options.training.chat_template_kwargs)
    form = asking(options.bench, problems, plain=is_plain)
    ask_plainly(tokenizer, form)
    check_prompts(tokenizer, model, problems, options, form)
    check_padding(model)
    return Loaded(model, tokenizer, str(options.model.model_name_or_path), form, is_plain)


def name_tokens(tokenizer: Tokenizer, model: CausalModel) -> None:
    """Let the tokenizer name an end and a padding token that the model has: TRL knows the tokenizer's alone.

    Raises:
        ModelError: neither names an end token.
    """
    for name, token in (
        ("eos_token", end_ids(model, tokenizer)[0]),
        ("pad_token", pad_id(model, tokenizer)),
    ):
        if getattr(tokenizer, f"{name}_id") != token:
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(token))


def load_model(options: Options) -> tuple[CausalModel, Tokenizer]:
    """The base model and its tokenizer, on the training device.

    Raises:
        ConfigError, ModelError: no model is named, or it cannot be loaded.
    """
    model = options.model
    check_weights(options)
    if model.model_name_or_path is None:
        raise ConfigError(
            "model_name_or_path must name a model, got none; set it to a folder or hub name"
        )
    return load_base(
        model.model_name_or_path,
        device=choose_device("cpu" if options.training.use_cpu else "auto"),
        dtype=(model.dtype or "auto") if model.use_peft else "float32",
        load_in_4bit=model.load_in_4bit,
        unsloth=options.bench.use_unsloth,
    )


def check_weights(options: Options) -> None:
    """Refuse number formats in which training does nothing or cannot work.

    A step of lr 5e-6 is smaller than half the distance between two bfloat16 numbers at most weights, so the
    sum is rounded back to where it was.

    Raises:
        ConfigError: with one line for the user.
    """
    model = options.model
    if options.training.fp16 and options.training.device.type == "cpu":
        raise ConfigError("fp16 must run on a GPU, got fp16 true on a CPU; set bf16 or neither")
    if model.load_in_8bit:
        raise ConfigError(
            "base weights must be in 4, 16 or 32 bits, got load_in_8bit true; set load_in_4bit"
        )
    if model.use_peft:
        return
    if model.load_in_4bit:
        raise ConfigError(
            "4-bit weights cannot be trained themselves, got load_in_4bit true with use_peft false; set "
            "use_peft to true, or load_in_4bit to false"
        )
    if model.dtype not in (None, "auto", "float32"):
        raise ConfigError(
            f"weights that are trained must be float32, got dtype {model.dtype} with use_peft false, in which "
            "most steps are rounded away; set dtype to float32 (bf16: true keeps the arithmetic in bfloat16)"
        )


def check_prompts(
    tokenizer: Tokenizer, model: CausalModel, problems: ProblemSet, options: Options, form: Asking
) -> None:
    """Refuse prompts that leave the context no room, or hold a token that the model does not have.

    Raises:
        ConfigError, ModelError: with one line for the user.
    """
    context = context_length(model)
    room = options.training.max_completion_length
    rows = rows_of_problems(problems, form)
    ids = [
        tokenizer.apply_chat_template(
            # spelt out: Unsloth's import changes the default of `return_dict` for the whole process
            row["prompt"],
            add_generation_prompt=True,
            return_dict=True,
            **(options.training.chat_template_kwargs or {}),
        )["input_ids"]
        for row in rows
    ]
    check_tokens(model, tokenizer, ids)
    lengths = [(len(one), row["task_id"]) for one, row in zip(ids, rows, strict=True)]
    longest, task_id = max(lengths)
    if context is not None and longest + room > context:
        raise ConfigError(
            f"prompt and completion must fit the model's context of {context} tokens, got "
            f"{longest} + {room} (task {task_id}); lower max_completion_length or leave problems out"
        )


def rows_of_problems(problems: ProblemSet, form: Asking) -> list[dict[str, Any]]:
    """What the data set holds of each problem."""
    # a column has one type
    return [{"prompt": form.messages(p), "task_id": str(p.task_id)} for p in problems.problems]
