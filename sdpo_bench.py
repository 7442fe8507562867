"""The `sdpo-bench` command: one group whose parts are loaded only when they are called."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import click

_COMMANDS = {
    "train": "trainer.cli.train:train",
    "verify": "trainer.cli.train:verify",
    "demo": "trainer.cli.demo:demo",
    "solve": "trainer.cli.solve:solve",
    "gap": "trainer.cli.gap:gap",
    "reproduce": "trainer.cli.reproduce:reproduce",
    "eval": "evaluator.cli.eval:eval_command",
    "compare": "evaluator.cli.results:compare_command",
    "show": "evaluator.cli.results:show_command",
    "doctor": "evaluator.cli.doctor:doctor",
    "sandbox": "sandbox.cli:sandbox",
    "ingest": "analysis.cli.results:ingest",
    "sql": "analysis.cli.results:sql",
    "runs": "analysis.cli.results:runs",
    "plots": "analysis.cli.figures:plots",
    "report": "analysis.cli.figures:report",
    "watch": "analysis.cli.figures:watch",
    "export": "analysis.cli.results:export",
    "import": "analysis.cli.imports:import_command",
}
"""Command -> `module:object`; a module is imported when its command is called or its help is shown."""


class LazyGroup(click.Group):
    """A group that imports a subcommand's module on first use, so `--help` does not import torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in alphabetical order."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return the command `name`, or None where there is none of that name."""
        if name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[name].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the group's own words."""
        with _harmless_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's
        """Run the command."""
        with _harmless_errors():
            return super().invoke(ctx)


@contextlib.contextmanager
def _harmless_errors() -> Iterator[None]:
    """Show what an error quotes, a file's name or a model's text, with nothing that a terminal would obey."""
    try:
        yield
    except click.ClickException as error:
        from analysis.render import printable

        # Click declares it final, and has no other place where every message passes.
        error.message = printable(error.message)  # type: ignore[misc]
        if isinstance(error, click.FileError):
            error.ui_filename = printable(error.ui_filename, line_breaks=False)  # type: ignore[misc]
        raise


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sdpo-bench")
def main() -> None:
    """Train code models on MBPP with GRPO and SDPO, evaluate them, and query the results."""


if __name__ == "__main__":
    main()
