"""Options that several commands share: the model, the problems, the sampling, the sandbox, where results go.

Each is a decorator to call, with what one command says otherwise: `@temperature(default=0.7)`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from analysis.shell_completion import run_ids

F = TypeVar("F", bound=Callable[..., Any])


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object on the command line, as a dictionary."""

    name = "JSON"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """Read it."""
        if isinstance(value, dict):
            return value
        try:
            content = json.loads(str(value))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            self.fail(f"must be a JSON object such as '{{\"a\": 1}}', got {value!r}", param, ctx)
        return content


class SandboxName(click.ParamType[str]):
    """A backend of this machine, or the address of a server; its form is checked before anything is loaded."""

    name = "auto|docker|process|http://HOST:PORT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Check it."""
        from sandbox.client import check_backend
        from sandbox.program import SandboxError

        try:
            check_backend(str(value), ("auto", "docker", "process"))
        except SandboxError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class FiniteRange(click.FloatRange):
    """A finite number in a range: NaN is neither below nor above any bound."""

    def convert(
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Check it."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"must be a finite number, got {value!r}", param, ctx)
        return number


class Count(click.IntRange):
    """A whole number from `min` that can be stored and reached."""

    def convert(self, value: int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Check it."""
        number = int(super().convert(value, param, ctx))
        if number > _LARGEST_COUNT:
            self.fail(f"must be at most {_LARGEST_COUNT}, got {value!r}", param, ctx)
        return number


_LARGEST_COUNT = 2**31 - 1
# As `sandbox.pool.task.check_timeout_s`; importing that here would load the container pool with the help.
_TIME_LIMIT_S = FiniteRange(0.001, 3600.0)
"""What a program's time limit can be."""
_option = partial(click.option, show_default=True)
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)

model = partial(_option, "--model", help="Folder or hub name of the base model.")
adapter = partial(
    _option,
    "--adapter",
    type=_FOLDER,
    help="Folder of a LoRA adapter; its own base model is used unless --model names one.",
)
dataset = partial(
    _option,
    "--dataset",
    default="sanitized/test",
    help="full/SPLIT, sanitized/SPLIT, embedded/SPLIT, human-eval, or a file or folder of your own problems.",
)
mbpp_dir = partial(
    _option,
    "--mbpp-dir",
    type=_FOLDER,
    help="Folder with mbpp.jsonl and sanitized-mbpp.json.  [default: MBPP_DIR, else the hub]",
)
limit = partial(
    _option,
    "--limit",
    type=Count(min=1),
    help="Only that many problems, the lowest task ids first.",
)
visible_tests = partial(
    _option,
    "--visible-tests",
    type=click.Choice(["all", "first", "none"]),
    help="Asserts that the prompt shows; grading uses all of them.",
)
max_new_tokens = partial(
    _option,
    "--max-new-tokens",
    type=Count(min=1),
    default=256,
    help="Length limit of a completion, in tokens.",
)
n_samples = partial(_option, "-n", "--n-samples", type=Count(min=1), default=1)
temperature = partial(
    _option,
    "--temperature",
    type=FiniteRange(min=0.0),
    default=0.0,
    help="Sampling temperature; 0 is greedy.",
)
seed = partial(
    _option,
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=42,
    help="Seed of the sampling, from 0; below 2**32, as in training.",
)
batch_size = partial(
    _option,
    "--batch-size",
    type=Count(min=1),
    default=16,
    help="Completions sampled together.",
)
timeout_s = partial(
    _option,
    "--timeout-s",
    type=_TIME_LIMIT_S,
    default=5.0,
    help="Time limit of each program, in seconds; waiting for a processor does not count.",
)
sandbox = partial(
    _option,
    "--sandbox",
    "backend",
    type=SandboxName(),
    default="auto",
    help="Where programs run; auto takes docker if an engine answers. An address names a server: docs/protocol.md.",
)
device = partial(_option, "--device", default="auto", help="auto, cpu, cuda or cuda:N.")
dtype = partial(
    _option,
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    help="Number format of the weights; auto is bfloat16 on CUDA and float32 on a CPU.",
)
load_in_4bit = partial(
    click.option, "--load-in-4bit", is_flag=True, help="Quantise the base model (NF4)."
)
chat_template_kwargs = partial(
    _option,
    "--chat-template-kwargs",
    type=JsonObject(),
    default="{}",
    help="Further arguments of the chat template, e.g. '{\"enable_thinking\": false}'.",
)
chat_template = partial(
    _option,
    "--chat-template",
    type=_FILE,
    help="File with a chat template (Jinja) instead of the tokenizer's.",
)
prompt_template = partial(
    _option,
    "--prompt-template",
    type=_FILE,
    help="File with the user's message; {text}, {tests} and {name} are filled in.",
)
resume = partial(
    _option,
    "--resume",
    metavar="RUN",
    shell_complete=run_ids,
    help="Continue an interrupted run where it stopped, with its own options.",
)
runs_dir = partial(
    _option,
    "--runs-dir",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    help="Folder that holds the runs.",
)
json_path = partial(
    _option, "--json", "json_path", type=_FILE, help="Also write the figures to this file."
)
"""Check it by `evaluator.cli.terminal.check_json_path`."""


def loading(command: F) -> F:
    """Add the options that say how a model is loaded and put on a device."""
    return device()(dtype()(load_in_4bit()(command)))


def templates(command: F) -> F:
    """Add the options that say what the prompt looks like."""
    return chat_template_kwargs()(chat_template()(prompt_template()(command)))
