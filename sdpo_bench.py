"""The `sdpo-bench` command: one group whose parts are loaded only when they are called."""

from __future__ import annotations

import codecs
import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import locale
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

_COMMANDS = {
    "train": "trainer.cli.train:train",
    "verify": "trainer.cli.train:verify",
    "demo": "trainer.cli.demo:demo",
    "solve": "trainer.cli.solve:solve",
    "gap": "trainer.cli.gap:gap",
    "reproduce": "trainer.cli.reproduce:reproduce",
    "eval": "evaluator.cli.eval:eval_command",
    "regrade": "evaluator.cli.regrade:regrade_command",
    "compare": "evaluator.cli.results:compare_command",
    "show": "evaluator.cli.results:show_command",
    "problems": "evaluator.cli.problems:problems",
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
    "restore": "analysis.cli.imports:restore_command",
}
"""Command -> `module:object`; a module is imported when its command is called or its help is shown."""
_PACKAGES = ("analysis", "evaluator", "sandbox", "trainer")
_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


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

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as click says it
        """Run the command line; what it needs of the process is set right first."""
        # words that are given come from a caller in Python, whose process is its own
        if not args and kwargs.get("args") is None:
            _speak_utf8()
            # on a CPU it advises every import of peft to install a kernel that nothing here needs
            logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
            if (problem := foreign_package()) is not None:
                click.echo(f"Error: {problem}", err=True)
                raise SystemExit(1)
            try:
                return super().main(*args, **kwargs)
            except SystemExit as end:
                if end.code == _INTERRUPTED:
                    # by now all is closed; threads that still ask the sandbox would be waited for
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(_INTERRUPTED)
                raise
            except OSError as error:
                if not _output_fails():
                    raise
                click.echo(
                    f"Error: what is printed must be taken, got {error.strerror!r} from standard output; "
                    "free space or print elsewhere",
                    err=True,
                )
                raise SystemExit(1) from None
        return super().main(*args, **kwargs)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands by name alone: their help would import them all."""
        names = [CompletionItem(name) for name in _COMMANDS if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the group's own words."""
        with _one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's
        """Run the command."""
        with _one_line():
            return super().invoke(ctx)


def _output_fails() -> bool:
    """Whether standard output takes nothing, as on a full disk; then nothing more is written to it."""
    try:
        print(flush=True)  # what could not be written before is forgotten
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # else it is tried again, and fails, at the end
        os.close(nowhere)
        return True
    return False


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """End with one line whatever the user can mend, with nothing in it that a terminal would obey."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise  # the help itself
    except click.UsageError as error:
        raise click.UsageError(_usage(error)) from error
    except click.ClickException as error:
        from analysis.render import printable

        # Click declares it final, and has no other place where every message passes.
        error.message = printable(error.message)  # type: ignore[misc]
        if isinstance(error, click.FileError):
            error.ui_filename = printable(error.ui_filename, line_breaks=False)  # type: ignore[misc]
        raise
    except ModuleNotFoundError as error:
        from analysis.installation import missing

        name = (error.name or "").partition(".")[0]
        if not name or name in _PACKAGES or importlib.util.find_spec(name) is not None:
            raise  # a bug of ours or of a package that is there
        raise click.ClickException(missing(name)) from error
    except KeyboardInterrupt as stop:  # a command that can be gone on with says how
        click.echo(f"\nstopped{'; ' if str(stop) else ''}{stop}", err=True)
        raise SystemExit(_INTERRUPTED) from None


def _usage(error: click.UsageError) -> str:
    """The line for words that click could not use; where it wrote them itself, with the way to the help."""
    from analysis.render import printable

    text = " ".join(printable(error.format_message()).split())
    if error.ctx is None or ";" in text or "--help" in text:
        return text
    return f"{text.rstrip('.')}; see `{error.ctx.command_path} --help`"


def foreign_package() -> str | None:
    """Return a line where Python finds another project's package under one of our four names, else None.

    Looks at paths alone, imports nothing.
    """
    here = Path(__file__).resolve().parent
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if found != here / name / "__init__.py":
            return f"the package {name!r} must be sdpo-bench's own, got {found or 'none'}; {_way_out(found)}"
    if (file := _written_over(here)) is not None:
        return (
            f"the file {file} must be sdpo-bench's own, got that of {_owner(file)}; install sdpo-bench again in "
            "an environment of its own (python3 -m venv)"
        )
    return None


def _way_out(found: Path | None) -> str:
    """How to keep a foreign package away, by where it stands."""
    if found is None:
        return "install sdpo-bench again"
    if (
        found.parent in (Path.cwd(), Path.cwd() / found.parent.name)
        and "site-packages" not in found.parts
    ):
        return "call `sdpo-bench`, or `python -P -m sdpo_bench`: they import nothing from the current folder"
    if any(p and found.is_relative_to(Path(p).resolve()) for p in _python_path()):
        return "take its folder out of PYTHONPATH"
    return (
        "install sdpo-bench in an environment of its own (python3 -m venv), or uninstall the other"
    )


def _python_path() -> list[str]:
    return os.environ.get("PYTHONPATH", "").split(os.pathsep)


def _written_over(here: Path) -> str | None:
    """A file of ours that has another size than the one that was installed: pip lets a package write over it."""
    try:
        installed = importlib.metadata.distribution("sdpo-bench")
    except importlib.metadata.PackageNotFoundError:
        return None
    if Path(str(installed.locate_file(""))).resolve() != here:
        return None  # a checkout, whose files change
    for file in installed.files or []:
        if file.parts[0] not in _PACKAGES or file.size is None or file.suffix != ".py":
            continue
        path = here / str(file)
        if path.is_file() and path.stat().st_size != file.size:
            return str(file)
    return None


def _owner(file: str) -> str:
    """The other distribution that says it has this file."""
    for other in importlib.metadata.distributions():
        if other.name != "sdpo-bench" and any(str(own) == file for own in other.files or []):
            return f"{other.name} {other.version}"
    return "somebody else"


def _speak_utf8() -> None:
    """Read and write text as UTF-8 whatever the locale says; what the terminal lacks is shown as its escape.

    Files are UTF-8 everywhere. A locale such as C, with UTF-8 mode switched off, would read them as ASCII: then
    the interpreter starts over, once.
    """
    is_utf8 = sys.flags.utf8_mode or codecs.lookup(locale.getencoding()).name == "utf-8"
    may_restart = os.environ.get("PYTHONUTF8") != "1" and not sys.flags.ignore_environment
    if not is_utf8 and may_restart:
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sdpo-bench")
def main() -> None:
    """Train code models on MBPP with GRPO and SDPO, evaluate them, and query the results."""


if __name__ == "__main__":
    main()
