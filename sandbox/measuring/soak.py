"""Many programs in a row through one sandbox: does anything grow, does it slow down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.client import open_pool
from sandbox.pool.endpoint import status
from sandbox.pool.pool import Pool
from sandbox.program import Program, Verdict

_BATCH = 500
_PROGRAM = Program(
    code="def total(items):\n    seen = {}\n    for x in items:\n        seen[x] = seen.get(x, 0) + 1\n"
    "    print(len(seen))\n    return sorted(seen.items())\n",
    asserts=(
        "assert total([1, 2, 2]) == [(1, 1), (2, 2)]",
        "assert total('abca') == [('a', 2), ('b', 1), ('c', 1)]",
        "assert total([]) == [(0, 0)]",
    ),
    callables=("total",),
)
_EXPECTED = (Verdict.PASSED, Verdict.PASSED, Verdict.FAILED)
MAX_SLOW_DOWN = 0.05
"""Of the CPU time of a program, in the sandbox that ran all of them against a fresh one beside it."""
_MIN_COMPARED, _MAX_COMPARED = 5, 12
"""Batches of each, in turn, for that; between these a sixth of what was run. Against its own first batches a sandbox
would be measured by what else the machine did in the meantime."""
MAX_GROWTH_BYTES = 4 << 20


@dataclass
class SoakResult:
    """What was seen at the start and at the end."""

    backend: str
    executions: int = 0
    seconds: float = 0.0
    wrong: int = 0
    """Programs with other verdicts than expected."""
    fresh_cpu_ms: float = 0.0
    """Per program in a sandbox that has run none."""
    worn_cpu_ms: float = 0.0
    """In the one that ran all of them, at the same time."""
    memory_bytes: tuple[int, int] = (0, 0)
    """Of the supervisors and slots, private to them."""
    client_memory_bytes: tuple[int, int] = (0, 0)
    descriptors: tuple[int, int] = (0, 0)
    """Of this process."""
    processes: tuple[int, int] = (0, 0)
    """Slots and their children."""
    growth: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the result as lines of text."""
        return [
            f"{self.executions} programs in {self.seconds:.0f} s on {self.backend}, {self.wrong} wrong",
            f"CPU per program: {self.worn_cpu_ms:.3f} ms, in a fresh sandbox beside it {self.fresh_cpu_ms:.3f} ms",
            f"memory inside: {self.memory_bytes[0] / 1e6:.1f} -> {self.memory_bytes[1] / 1e6:.1f} MB; "
            f"client: {self.client_memory_bytes[0] / 1e6:.1f} -> {self.client_memory_bytes[1] / 1e6:.1f} MB",
            f"descriptors {self.descriptors[0]} -> {self.descriptors[1]}, "
            f"processes {self.processes[0]} -> {self.processes[1]}",
            "grew: " + ", ".join(self.growth) if self.growth else "nothing grew",
        ]


def run(
    executions: int, *, max_seconds: float, backend: str, say: Callable[[str], object]
) -> SoakResult:
    """Run programs until there were enough or the time is up.

    Raises:
        SandboxError: the sandbox cannot be had.
    """
    with open_pool(backend, own=True) as pool:
        result = SoakResult(pool.name)
        _batch(pool, result)  # caches fill once
        before = _look(pool)
        start = time.monotonic()
        while result.executions < executions and time.monotonic() - start < max_seconds:
            _batch(pool, result)
            if result.executions % 10_000 == 0:
                say(f"{result.executions} programs, {time.monotonic() - start:.0f} s")
        result.seconds = time.monotonic() - start
        after = _look(pool)
        result.worn_cpu_ms, result.fresh_cpu_ms = _compare(pool, backend, result)
    pairs = zip(before, after, strict=True)
    result.memory_bytes, result.client_memory_bytes, result.descriptors, result.processes = pairs
    result.growth = _growth(result)
    return result


def _compare(worn: Pool, backend: str, result: SoakResult) -> tuple[float, float]:
    """CPU-ms of a program in this sandbox and in a fresh one, in turn: of each the fastest batch."""
    with open_pool(backend, own=True) as fresh:
        _batch(fresh, result)
        n = min(_MAX_COMPARED, max(_MIN_COMPARED, result.executions // (6 * _BATCH)))
        pairs = [(_batch(worn, result), _batch(fresh, result)) for _ in range(n)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def _batch(pool: Pool, result: SoakResult) -> float:
    """Run a batch; return the CPU-ms of a program."""
    executions = pool.run([_PROGRAM] * _BATCH)
    result.executions += len(executions)
    result.wrong += sum(
        tuple(part.verdict for part in execution.results) != _EXPECTED for execution in executions
    )
    return sum(execution.cpu_ms for execution in executions) / len(executions)


def _growth(result: SoakResult) -> list[str]:
    grew = {
        "wrong verdicts": result.wrong > 0,
        "CPU time": result.worn_cpu_ms > result.fresh_cpu_ms * (1 + MAX_SLOW_DOWN),
        "memory inside": _rise(result.memory_bytes) > MAX_GROWTH_BYTES,
        "the client's memory": _rise(result.client_memory_bytes) > MAX_GROWTH_BYTES,
        "descriptors": _rise(result.descriptors) > 0,
        "processes": _rise(result.processes) > 0,
    }
    return [what for what, is_so in grew.items() if is_so]


def _rise(pair: tuple[int, int]) -> int:
    return pair[1] - pair[0]


def _look(pool: Pool) -> tuple[int, int, int, int]:
    """Memory inside, memory here, descriptors here, processes inside."""
    inside = processes = 0
    for endpoint in pool.endpoints():
        facts = status(endpoint.socket_dir).facts
        inside += int(facts["memory_bytes"])
        processes += len(facts["slot_pids"]) + int(facts["n_children"])
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return inside, resident, len(os.listdir("/proc/self/fd")), processes
