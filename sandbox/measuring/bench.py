"""Ways to execute one program, measured in turn in one run, so that a busy machine slows all of them."""

from __future__ import annotations

import html
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from sandbox.containers.docker_backend import Container, Engine, engine, plain_container
from sandbox.containers.image import ROOT, current_image
from sandbox.program import SandboxError

_CODE = """
def similar_elements(test_tup1, test_tup2):
    res = tuple(set(test_tup1) & set(test_tup2))
    return (res)
"""
_ASSERTS = (
    "assert set(similar_elements((3, 4, 5, 6),(5, 7, 4, 10))) == set((4, 5))",
    "assert set(similar_elements((1, 2, 3, 4),(5, 4, 3, 7))) == set((3, 4))",
    "assert set(similar_elements((11, 12, 14, 13),(17, 15, 14, 13))) == set((13, 14))",
)
_SCRIPT = _CODE + "\n".join(_ASSERTS) + "\n"
AT_A_TIME = 4
"""Executions at the same time when a rate is measured."""
_BURST, _LOCAL_BURST, _SLOW_BURST = 200, 40, 12
"""Executions in one measurement of a rate: fewer would measure how it starts and ends."""
_ENGINE_PROCESSES = ("dockerd", "containerd")
# Of cgroup version 1 in nanoseconds, of version 2 in microseconds; an empty name is the group of all containers.
_CGROUP_FILES = (
    ("/sys/fs/cgroup/cpuacct/docker/{}/cpuacct.usage", 1e-9),
    ("/sys/fs/cgroup/cpu,cpuacct/docker/{}/cpuacct.usage", 1e-9),
    ("/sys/fs/cgroup/docker/{}/cpu.stat", 1e-6),
    ("/sys/fs/cgroup/system.slice/docker-{}.scope/cpu.stat", 1e-6),
)


@dataclass(frozen=True)
class Row:
    """One way to execute a program."""

    way: str
    n: int
    p50_ms: float
    p99_ms: float
    per_second: float
    """With four at a time; the fork floor one at a time."""
    cpu_ms: float
    """Client, container and engine together; of the engine, what its long-lived processes used."""
    rates: tuple[float, ...] = ()
    """Programs per second of each round."""
    cpus_ms: tuple[float, ...] = ()
    """CPU-ms of a program in each round."""


@dataclass(frozen=True)
class _Way:
    name: str
    run: Callable[[int], None]
    """Executes the program so many times."""
    cpu_s: Callable[[], float]
    """CPU seconds spent on it so far, by all processes that take part."""
    burst: int
    """Executions at a time when the rate is measured."""


def measure(rounds: int, *, against: Path | None = None) -> list[Row]:
    """Measure every way `rounds` times, in turn.

    Args:
        rounds: measurements of each way.
        against: another checkout of this project, with an image built from it; its sandbox is one more way.

    Raises:
        SandboxError: no engine, no image, or a way that does not give the right verdict.
    """
    with ExitStack() as stack:
        ways = list(_ways(stack, against))
        for way in ways:
            way.run(way.burst)  # first use of everything
        seen = zip(*[[_round(way) for way in ways] for _ in range(rounds)], strict=True)
        return [_row(way.name, rounds_of) for way, rounds_of in zip(ways, seen, strict=True)]


def _round(way: _Way) -> tuple[float, float, float]:
    """Milliseconds of one execution; executions per second, and CPU-ms of each, in a burst."""
    start = time.perf_counter()
    way.run(1)
    took_s = time.perf_counter() - start
    cpu_before, start = way.cpu_s(), time.perf_counter()
    way.run(way.burst)
    rate = way.burst / (time.perf_counter() - start)
    return 1e3 * took_s, rate, 1e3 * (way.cpu_s() - cpu_before) / way.burst


def _row(name: str, seen: Sequence[tuple[float, float, float]]) -> Row:
    times_ms, rates, cpus_ms = zip(*seen, strict=True)
    ordered = sorted(times_ms)
    return Row(
        name,
        len(seen),
        p50_ms=ordered[len(ordered) // 2],
        p99_ms=ordered[math.ceil(0.99 * len(ordered)) - 1],
        per_second=statistics.median(rates),
        cpu_ms=statistics.mean(cpus_ms),
        rates=rates,
        cpus_ms=cpus_ms,
    )


def _ways(stack: ExitStack, against: Path | None) -> Iterator[_Way]:
    image = current_image()
    client = stack.enter_context(engine())
    yield _Way(
        "docker run, hardened",
        _repeat(lambda: _docker_run(client, image)),
        lambda: _own_cpu_s() + _engine_cpu_s() + _cgroup_cpu_s(""),
        burst=_SLOW_BURST,
    )
    container = stack.enter_context(plain_container(client, image))
    yield _Way(
        "docker exec",
        _repeat(lambda: _docker_exec(container)),
        lambda: _own_cpu_s() + _engine_cpu_s() + _cgroup_cpu_s(container.id),
        burst=_SLOW_BURST,
    )
    yield _Way("local python -I", _repeat(_local), _own_cpu_s, burst=_LOCAL_BURST)
    for root in (ROOT, against):
        if root is not None:
            yield _sandbox(stack, root)
    floor = _Loop(stack, _FORK_LOOP)
    yield _Way("fork floor", floor.run, lambda: floor.used_s, burst=_BURST)


def _sandbox(stack: ExitStack, root: Path) -> _Way:
    """The sandbox of a checkout, with a client of its own: so two of them are measured alike."""
    program = json.dumps([_CODE, _ASSERTS, ["similar_elements"]])
    loop = _Loop(stack, _SANDBOX_LOOP, program, str(AT_A_TIME), root=root)
    return _Way(
        "this sandbox" if root == ROOT else f"the sandbox of {root}",
        loop.run,
        lambda: loop.used_s + sum(_cgroup_cpu_s(container) for container in loop.containers),
        burst=_BURST,
    )


def _repeat(once: Callable[[], None]) -> Callable[[int], None]:
    """Execute n times, as many at a time as the sandbox has slots."""

    def run(n: int) -> None:
        if n == 1:
            once()
            return
        with ThreadPoolExecutor(AT_A_TIME) as threads:
            for done in [threads.submit(once) for _ in range(n)]:
                done.result()

    return run


def _docker_run(client: Engine, image: str) -> None:
    """One container a program, under the same options."""
    with plain_container(client, image, _SCRIPT) as container:
        if container.wait()["StatusCode"] != 0:
            raise SandboxError("docker run must exit with 0 for the benchmark's program")


def _docker_exec(container: Container) -> None:
    if container.exec_run(["python3", "-I", "-c", _SCRIPT]).exit_code != 0:
        raise SandboxError("docker exec must exit with 0 for the benchmark's program")


def _local() -> None:
    subprocess.run([sys.executable, "-I", "-c", _SCRIPT], check=True)


_LOOP = """
import json, resource, sys
def answer(value):
    print(json.dumps(value), flush=True)
def requests():
    for line in sys.stdin:
        yield int(line)
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        answer(sum(usage.ru_utime + usage.ru_stime for usage in usages))
"""
"""Does what follows for every number on standard input; answers with the CPU seconds that it has used so far."""
_FORK_LOOP = """
import os
answer([])
for n in requests():
    for _ in range(n):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
"""
_SANDBOX_LOOP = """
from sandbox.client import open_sandbox
from sandbox.program import Program
code, asserts, callables = json.loads(sys.argv[1])
program = Program(code, tuple(asserts), tuple(callables))
with open_sandbox("docker", n_workers=int(sys.argv[2]), own=True) as pool:
    answer([endpoint.container_id for endpoint in pool.endpoints()])
    for n in requests():
        for done in pool.run([program] * n):
            if any(result.verdict != "passed" for result in done.results):
                sys.exit("the benchmark's program must pass, it did not")
"""
"""For this checkout and for others: it says first which containers belong to it."""


class _Loop:
    """A process that executes the program as often as it is told."""

    def __init__(
        self, stack: ExitStack, script: str, *arguments: str, root: Path | None = None
    ) -> None:
        packages = [] if root else ["-S"]  # a small interpreter, where nothing is imported
        self._process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-P", *packages, "-c", _LOOP + script, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=root,
                env={**os.environ, "PYTHONPATH": str(root)} if root else {},
            )
        )
        self._what = f"the loop in {root or 'an interpreter'}"
        self.containers: list[str] = self._answer()
        self.used_s = 0.0

    def run(self, n: int) -> None:
        stdin = cast("IO[str]", self._process.stdin)
        stdin.write(f"{n}\n")
        stdin.flush()
        self.used_s = self._answer()

    def _answer(self) -> Any:  # noqa: ANN401 - a list or a number
        line = cast("IO[str]", self._process.stdout).readline()
        if not line:
            raise SandboxError(f"{self._what} must answer, it ended; is its image built?")
        return json.loads(line)


def _own_cpu_s() -> float:
    """CPU of this process and of the children it waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _cgroup_cpu_s(container: str) -> float:
    """CPU of a container, or of all of them, ended ones included, by the kernel's count."""
    for pattern, unit in _CGROUP_FILES:
        path = Path(pattern.format(container)) if container else Path(pattern.format("")).resolve()
        try:
            text = path.read_text()
        except OSError:
            continue
        return int(text.split()[1] if unit == 1e-6 else text) * unit
    return 0.0


def _engine_cpu_s() -> float:
    """CPU of the engine's processes, and of those they waited for."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        name = text[text.index("(") + 1 : text.rindex(")")]
        if name.startswith(_ENGINE_PROCESSES):
            ticks += sum(int(field) for field in text[text.rindex(")") + 2 :].split()[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def markdown(table: list[Row]) -> str:
    """Return the table as Markdown, with the ratio to hardened docker run."""
    slowest = table[0]
    lines = [
        "| way of executing one program | p50 ms | p99 ms | per second, 4 at a time | CPU-ms each | times docker run |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in table:
        lines.append(
            f"| {row.way} | {row.p50_ms:.1f} | {row.p99_ms:.1f} | {row.per_second:.0f} | {row.cpu_ms:.1f} "
            f"| {row.per_second / slowest.per_second:.1f} |"
        )
    return "\n".join(lines)


def comparison(table: list[Row]) -> str:
    """Say what this sandbox does against that of another checkout; empty where none was measured."""
    ours = next(row for row in table if row.way == "this sandbox")
    for row in table:
        if row.way.startswith("the sandbox of "):
            return (
                f"this sandbox does {_ratio(ours.rates, row.rates):.2f} times the programs of {row.way} "
                f"for {_ratio(ours.cpus_ms, row.cpus_ms):.2f} times its CPU (medians of {row.n} pairs)"
            )
    return ""


def _ratio(ours: tuple[float, ...], theirs: tuple[float, ...]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def svg(table: list[Row]) -> str:
    """Return a bar chart of executions per second, on a logarithmic axis."""
    left, width, height, top = 190, 420, 26, 46
    greatest = max(row.per_second for row in table)
    decades = max(1, math.ceil(math.log10(max(greatest, 10))))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" '
        f'height="{top + height * len(table) + 44}" font-family="sans-serif" font-size="13">',
        '<text x="8" y="20" font-size="15">Programs executed per second (logarithmic)</text>',
        f'<text x="8" y="36" fill="#666">one MBPP reference with its asserts, n = {table[0].n} each</text>',
    ]
    for decade in range(decades + 1):
        x = left + width * decade / decades
        bottom = top + height * len(table)
        parts.append(f'<line x1="{x}" y1="{top}" x2="{x}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{10**decade}</text>')
    for index, row in enumerate(table):
        y = top + height * index
        length = width * math.log10(max(row.per_second, 1)) / decades
        parts.append(
            f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{html.escape(row.way)}</text>'
        )
        parts.append(
            f'<rect x="{left}" y="{y + 4}" width="{length:.1f}" height="{height - 8}" fill="#4c78a8"/>'
        )
        parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 17}">{row.per_second:.0f}</text>')
    return "\n".join([*parts, "</svg>", ""])
