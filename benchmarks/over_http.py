"""Throughput and latency of the sandbox through a server's HTTP beside its own sockets, in turn in one run.

    python -m benchmarks.over_http --backend docker --rounds 10

Both ways have containers of their own with the same number of slots, and run the same programs: one MBPP reference
with its asserts. The server is a process of its own. `docs/protocol.md` holds a result.
"""

from __future__ import annotations

import os
import re
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click

from sandbox.client import Sandbox, open_sandbox
from sandbox.http.address import TOKEN_VARIABLE
from sandbox.http.remote import Remote
from sandbox.program import Program, Verdict

_PROGRAM = Program(
    code="def similar_elements(a, b):\n    return tuple(set(a) & set(b))\n",
    asserts=(
        "assert set(similar_elements((3, 4, 5, 6), (5, 7, 4, 10))) == set((4, 5))",
        "assert set(similar_elements((1, 2, 3, 4), (5, 4, 3, 7))) == set((3, 4))",
    ),
    callables=("similar_elements",),
)


@click.command()
@click.option("--backend", type=click.Choice(["docker", "process"]), default="docker")
@click.option("--rounds", default=10, show_default=True, help="Measurements of each way.")
@click.option("--batch", default=256, show_default=True, help="Programs of one measurement.")
@click.option("--workers", default=2, show_default=True, help="Programs at a time, each way.")
def main(backend: str, rounds: int, batch: int, workers: int) -> None:
    """Measure both ways in turn."""
    with ExitStack() as stack:
        ways: dict[str, Sandbox] = {
            "socket": stack.enter_context(open_sandbox(backend, n_workers=workers, own=True)),
            "HTTP": stack.enter_context(_served(backend, workers)),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        alone_ms: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, sandbox in ways.items():
                rate = batch / _seconds(sandbox, batch)
                if number:  # the first round fills caches
                    rates[way].append(rate)
                    alone_ms[way] += [1000 * _seconds(sandbox, 1) for _ in range(5)]
    ratios = [over / own for over, own in zip(rates["HTTP"], rates["socket"], strict=True)]
    click.echo("| way | programs a second, median (least to most) | one program alone, p50 ms |")
    click.echo("| --- | --- | --- |")
    for way in ways:
        shown = (
            f"{statistics.median(rates[way]):.0f} ({min(rates[way]):.0f} to {max(rates[way]):.0f})"
        )
        click.echo(f"| {way} | {shown} | {statistics.median(alone_ms[way]):.1f} |")
    click.echo(f"HTTP / socket, in pairs of rounds: {statistics.median(ratios):.2f}")


def _seconds(sandbox: Sandbox, n: int) -> float:
    """Time that so many programs take, which must all pass."""
    start = time.perf_counter()
    executions = sandbox.run([_PROGRAM] * n)
    seconds = time.perf_counter() - start
    if any(r.verdict is not Verdict.PASSED for execution in executions for r in execution.results):
        raise click.ClickException("the benchmark's program must pass, it did not")
    return seconds


@contextmanager
def _served(backend: str, workers: int) -> Iterator[Sandbox]:
    """The client of a server in a process of its own."""
    token = secrets.token_hex(32)
    words = ["--backend", backend, "--workers", str(workers), "--port", "0"]
    # A folder without containers: those of `sandbox up` would serve both ways.
    env = {**os.environ, TOKEN_VARIABLE: token, "SDPO_BENCH_SANDBOX_DIR": "/nonexistent"}
    server = subprocess.Popen(
        [sys.executable, "-m", "sdpo_bench", "sandbox", "serve", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        assert server.stdout is not None  # noqa: S101 - a pipe was asked for
        found = re.search(r"at (http://\S+);", server.stdout.readline())
        if found is None:
            raise click.ClickException("the server must start, it did not")
        with Remote(found[1], token=token) as remote:
            yield remote
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
