"""The command that serves a sandbox over HTTP."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from sandbox.http.address import TOKEN_VARIABLE
from sandbox.program import SandboxError

if TYPE_CHECKING:
    from sandbox.http.server import Server

_MAX_FILES = 65_536
BACKENDS = click.Choice(["docker", "gvisor", "process"])
option = partial(click.option, show_default=True)


# Long because it lists every option of the help, in its order.
@click.command()
@option(
    "--host",
    default="127.0.0.1",
    help="Address to listen on; one that other machines reach needs a token.",
)
@option(
    "--port",
    default=8765,
    type=click.IntRange(0, 65_535),
    help="Port to listen on; 0 takes a free one.",
)
@option(
    "--backend",
    type=BACKENDS,
    default="docker",
    help="Where programs run; process does not isolate them.",
)
@option(
    "--workers",
    default=2,
    type=click.IntRange(1, 256),
    help="Programs at a time, if no containers of `sandbox up` are ready.",
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=f"File with the token that requests must have.  [default: {TOKEN_VARIABLE}, else none]",
)
@option(
    "--queue",
    default=256,
    type=click.IntRange(0, 100_000),
    help="Requests that may wait; the next gets status 429.",
)
@option(
    "--max-body-mib",
    default=16,
    type=click.IntRange(1, 1024),
    help="Largest body of a request, in MiB.",
)
@option(
    "--grace-s",
    default=60,
    type=click.IntRange(1),
    help="Time for running requests when the server is stopped, in seconds.",
)
def serve(
    host: str,
    port: int,
    backend: str,
    workers: int,
    token_file: Path | None,
    queue: int,
    max_body_mib: int,
    grace_s: int,
) -> None:
    """Serve this machine's sandbox over HTTP, for `--sandbox http://HOST:PORT` on others.

    SIGTERM or Ctrl-C stops it: running requests are finished, new ones refused. A second one ends it at once.

    \b
    Example:  sdpo-bench sandbox serve --workers 8
              sdpo-bench sandbox serve --host 0.0.0.0 --token-file token
    """
    from sandbox.client import open_pool
    from sandbox.http.server import Limits, Server  # without the extra the command line names it

    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
    limits = Limits(n_waiting=queue, max_body_bytes=max_body_mib << 20, grace_s=grace_s)
    try:
        with open_pool(backend, n_workers=workers) as pool:
            server = Server(pool, host=host, port=port, token=_token(token_file), limits=limits)
            _many_files()
            _until_stopped(server, pool.name)
    except SandboxError as error:
        raise click.ClickException(str(error)) from error


def _until_stopped(server: Server, name: str) -> None:
    """Serve until a signal says stop."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            server.hurry()
        server.stop()
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.start()
    click.echo(f"{name} at {server.url}; stop with Ctrl-C or SIGTERM")
    stopped.wait()
    click.echo("stopping: what runs is finished, what is new is refused", err=True)
    server.join()


def _token(file: Path | None) -> str | None:
    """The token of the file, else of the environment, without the line's end."""
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise SandboxError(f"--token-file must be readable text, got {error}") from error


def _many_files() -> None:
    """Let a server have as many connections as the machine allows: each is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
