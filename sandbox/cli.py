"""The commands of the sandbox: build the image, start, list, stop, attack and measure containers."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sandbox.program import SandboxError
from sandbox.serve import BACKENDS, option, serve

if TYPE_CHECKING:
    from sandbox.attack import Attack


def _writable(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse an output file whose folder takes none, before any work is done for it."""
    if path is not None and not os.access(path.absolute().parent, os.W_OK):
        raise click.ClickException(
            f"an output file must be writable, got {str(path)!r} (its folder takes none); name another"
        )
    return path


_json_file = partial(
    click.option, "--json", "json_file", type=click.Path(path_type=Path), callback=_writable
)
_backend = partial(option, "--backend", type=BACKENDS, default="docker", help="Sandbox to attack.")
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_LAYERS = ("uid", "chroot", "seccomp", "landlock")


class _Group(click.Group):
    """Commands of which a sandbox that cannot be had is one line, not a traceback."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's
        try:
            return super().invoke(ctx)
        except SandboxError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def sandbox() -> None:
    """Run untrusted programs in locked-down containers, and attack the containers to test them.

    \b
    Example:  sdpo-bench sandbox build && sdpo-bench sandbox attack tests/attacks
    """


sandbox.add_command(serve)


@sandbox.command()
@click.option(
    "--base-image", help="Image with python3 >= 3.11.  [default: that of Dockerfile.sandbox]"
)
@click.option(
    "--packages", default="", help="Packages that programs may import, separated by blanks."
)
@click.option(
    "--if-docker",
    is_flag=True,
    help="If no engine answers, print a message and succeed. Keep an existing image, with any packages.",
)
def build(base_image: str | None, packages: str, if_docker: bool) -> None:
    """Build the sandbox's image.

    If no registry answers, the base image is made from Debian packages with mmdebstrap.

    \b
    Example:  sdpo-bench sandbox build --packages "numpy"
    """
    from sandbox.containers import docker_backend, image

    if if_docker and not docker_backend.answers():
        _note("no Docker engine answers: no image is built, the process backend will be used")
        return
    kept = image.find_current() if if_docker and not packages else None
    if kept is not None:
        click.echo(kept)
        return
    click.echo(image.build(base_image=base_image, packages=packages.split(), say=_note))


@sandbox.command()
@option("--containers", default=2, help="Containers.", type=click.IntRange(1, 32))
@option("--slots", default=1, help="Programs at a time in each.", type=click.IntRange(1, 32))
def up(containers: int, slots: int) -> None:
    """Start containers that all commands of this user share.

    \b
    Example:  sdpo-bench sandbox up --containers 2 --slots 2
    """
    from sandbox.containers import docker_backend, image, shared
    from sandbox.containers.limits import Limits

    folder = shared.directory()
    current = image.current_image()
    names = docker_backend.bring_up(
        folder, containers=containers, slots=slots, image=current, limits=Limits()
    )
    click.echo(f"{len(names)} containers answer in {folder}")


@sandbox.command()
def down() -> None:
    """Remove the containers that `up` started, and leftovers of killed clients.

    \b
    Example:  sdpo-bench sandbox down
    """
    from sandbox.containers import docker_backend

    click.echo(f"removed {len(docker_backend.take_down())} containers")


@sandbox.command()
@_json_file(help="Also write the table here.")
def status(json_file: Path | None) -> None:
    """Show the containers that answer.

    \b
    Example:  sdpo-bench sandbox status --json status.json
    """
    from sandbox.containers import shared

    found = shared.sockets()
    rows = [{"socket_dir": str(entry.socket_dir), **entry.facts} for entry in found]
    for row in rows:
        packages = "".join(f"  {package}" for package in row["packages"])
        click.echo(
            f"{row['socket_dir']}  python {row['python']}{packages}  {row['slots']} slots  up {row['uptime_s']:.0f} s  "
            f"recycled {row['recycled']}  restarts {row['restarts']}  hash seed {row['hash_seed']}"
        )
    if not rows:
        click.echo(f"no container answers in {shared.directory()}; run `sdpo-bench sandbox up`")
    _write(json_file, {"containers": rows})


@sandbox.command()
@click.argument("folder", type=_FOLDER)
@_backend()
@click.option(
    "--without",
    type=click.Choice(_LAYERS),
    multiple=True,
    help="Switch this layer off, to see its effect.",
)
@_json_file(help="Also write the report here.")
@click.option(
    "--grader",
    metavar="COMMAND",
    help="Attack this command instead, which reads a program as JSON and writes a verdict.",
)
@click.option(
    "--over-http", is_flag=True, help="Run the programs through a server of `sandbox serve`."
)
def attack(
    folder: Path,
    backend: str,
    without: tuple[str, ...],
    json_file: Path | None,
    grader: str | None,
    *,
    over_http: bool,
) -> None:
    """Run a folder of attacks; exit with 1 if any attack succeeds.

    With --grader the attacks have all the rights of that command: run it in its own container.

    \b
    Example:  sdpo-bench sandbox attack tests/attacks --json attacks.json
              sdpo-bench sandbox attack tests/attacks --grader "python sandbox/graders/by_exit_status.py"
    """
    from sandbox import attack as attacks
    from sandbox import grader as graders

    def show(result: attacks.AttackResult) -> None:
        state = ", ".join(result.problems) or "ok"
        verdicts = " ".join(sorted(set(result.verdicts)))
        click.echo(
            _harmless(
                f"{result.name:40} {result.seconds:7.2f} s  {verdicts:22} {state} {result.detail}"
            )
        )

    corpus = _attacks(folder)
    if grader is not None:
        report = graders.run(corpus, grader, progress=show)
    else:
        report = attacks.run(
            corpus, backend, without=frozenset(without), over_http=over_http, progress=show
        )
    click.echo(
        f"{len(report.attacks)} attacks on {report.backend}: {report.forged_passes} forged passes, "
        f"{report.false_failures} false failures, {report.broken} broken, {report.survivors} survivors, "
        f"{report.poisoned} poisoned"
    )
    if grader is not None:
        click.echo(f"passed and must fail: {report.by_category()}; {report.skipped} skipped")
    _write(json_file, report.to_json())
    if not report.clean:
        raise click.exceptions.Exit(1)


@sandbox.command()
@click.argument("folder", default=Path("tests/attacks"), type=_FOLDER)
@_backend()
@_json_file(help="Also write the reports here.")
def ablate(folder: Path, backend: str, json_file: Path | None) -> None:
    """Attack with each layer switched off in turn, and with every layer except the judge off.

    \b
    Example:  sdpo-bench sandbox ablate tests/attacks
    """
    from sandbox import attack as attacks

    corpus = _attacks(folder)
    reports = []
    sets = [frozenset[str](), *(frozenset([layer]) for layer in _LAYERS), frozenset(_LAYERS)]
    click.echo("| without | forged | false failures | broken | survivors | poisoned | which |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- |")
    for without in sets:
        report = attacks.run(corpus, backend, without=without)
        reports.append({"without": sorted(without), **report.to_json()})
        which = ", ".join(result.name for result in report.attacks if result.problems)
        click.echo(
            f"| {', '.join(sorted(without)) or 'nothing'} | {report.forged_passes} | {report.false_failures} "
            f"| {report.broken} | {report.survivors} | {report.poisoned} | {which} |"
        )
    _write(json_file, {"reports": reports})


@sandbox.command()
@option("--rounds", default=40, help="Executions of each way.", type=click.IntRange(2))
@click.option(
    "--chart",
    type=click.Path(path_type=Path),
    callback=_writable,
    help="Write a bar chart here, as SVG.",
)
@_json_file(help="Also write the table here.")
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    metavar="CHECKOUT",
    help="Also measure the sandbox of another checkout of this project; build its image first.",
)
def bench(rounds: int, chart: Path | None, json_file: Path | None, against: Path | None) -> None:
    """Compare ways to execute one program, interleaved in one run.

    \b
    Example:  sdpo-bench sandbox bench --rounds 40 --chart docs/bench.svg
    """
    from sandbox.measuring import bench as benchmark

    table = benchmark.measure(rounds, against=against)
    click.echo(benchmark.markdown(table))
    if against is not None:
        click.echo(benchmark.comparison(table))
    if chart is not None:
        chart.write_text(benchmark.svg(table))
    _write(json_file, {"rows": [vars(row) for row in table]})


@sandbox.command()
@option("--executions", default=100_000, help="Programs to run.", type=click.IntRange(1000))
@option("--max-seconds", default=600.0, help="Stop after this time.", type=click.FloatRange(1))
@_backend(help="Sandbox to use.")
@_json_file(help="Also write the result here.")
def soak(executions: int, max_seconds: float, backend: str, json_file: Path | None) -> None:
    """Run many programs in a row; exit with 1 if memory, descriptors, processes or times grow.

    \b
    Example:  sdpo-bench sandbox soak --executions 100000 --max-seconds 900
    """
    from sandbox.measuring import soak as soaking

    result = soaking.run(executions, max_seconds=max_seconds, backend=backend, say=click.echo)
    for line in result.lines():
        click.echo(line)
    _write(json_file, vars(result))
    if result.growth:
        raise click.exceptions.Exit(1)


@sandbox.command()
def doctor() -> None:
    """Check this machine for the sandbox, one line for each need; exit with 1 if docker cannot be used.

    \b
    Example:  sdpo-bench sandbox doctor
    """
    from sandbox import doctor as checks

    found = checks.examine()
    for check in found:
        click.echo(f"{'ok  ' if check.ok else 'FAIL' if check.needed else 'note'}  {check.text}")
    if any(check.needed and not check.ok for check in found):
        raise click.exceptions.Exit(1)


def _attacks(folder: Path) -> list[Attack]:
    from sandbox import attack as attacks

    try:
        return attacks.load(folder)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _note(line: str) -> None:
    click.echo(_harmless(line), err=True)


def _harmless(text: str) -> str:
    """A line with each character that a terminal would obey as its escape: it may quote a program."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def _write(path: Path | None, document: dict[str, Any]) -> None:
    if path is not None:
        try:
            path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        except OSError as error:
            raise click.ClickException(f"{path} must be writable, got {error.strerror}") from error
