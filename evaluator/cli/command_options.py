"""Options that several commands share: where programs run, how a model is loaded, where results go."""

from __future__ import annotations

import json
from collections.abc import Callable
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


MBPP_DIR = click.option(
    "--mbpp-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with mbpp.jsonl and sanitized-mbpp.json.  [default: MBPP_DIR, else the hub]",
)
MAX_NEW_TOKENS = click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Length limit of a completion, in tokens.",
)
SEED = click.option("--seed", type=int, default=42, show_default=True, help="Seed of the sampling.")
TIMEOUT_S = click.option(
    "--timeout-s",
    type=click.FloatRange(min=0.0, min_open=True),
    default=5.0,
    show_default=True,
    help="Time limit of each program, in seconds; waiting for a processor does not count.",
)
SANDBOX = click.option(
    "--sandbox",
    "backend",
    type=SandboxName(),
    default="auto",
    show_default=True,
    help="Where programs run; auto takes docker where an engine answers. An address is a server's: docs/protocol.md.",
)
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)
DTYPE = click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Number format of the weights; auto is bfloat16 on CUDA and float32 on a CPU.",
)
LOAD_IN_4BIT = click.option("--load-in-4bit", is_flag=True, help="Quantise the base model (NF4).")
CHAT_TEMPLATE_KWARGS = click.option(
    "--chat-template-kwargs",
    type=JsonObject(),
    default="{}",
    show_default=True,
    help="What the chat template is given beside the messages, e.g. '{\"enable_thinking\": false}'.",
)
CHAT_TEMPLATE = click.option(
    "--chat-template",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with a chat template (Jinja) in place of the tokenizer's.",
)
PROMPT_TEMPLATE = click.option(
    "--prompt-template",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the user's message; {text}, {tests} and {name} are filled in.",
)
RESUME = click.option(
    "--resume",
    metavar="RUN",
    shell_complete=run_ids,
    help="Go on with an interrupted run, with its own options, where it stopped.",
)
RUNS_DIR = click.option(
    "--runs-dir",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder that gets the run's journal.",
)


def batch_size(default: int, *, more: str = "") -> Callable[[F], F]:
    """The option `--batch-size`; `more` ends its help."""
    return click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help=f"Completions sampled together{more}.",
    )


def json_path(help_text: str) -> Callable[[F], F]:
    """The option `--json FILE`; check it by `evaluator.cli.terminal.check_json_path`."""
    return click.option(
        "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help=help_text
    )
