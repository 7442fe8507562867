"""Many programs in a row through one sandbox: does anything grow, does it slow down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.client import open_sandbox
from sandbox.endpoint import status
from sandbox.pool import Pool
from sandbox.program import Program, SandboxError, Verdict

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
"""Of the CPU time of a program, last tenth against first tenth."""
MAX_GROWTH_BYTES = 4 << 20


@dataclass
class SoakResult:
    """What was seen at the start and at the end."""

    backend: str
    executions: int = 0
    seconds: float = 0.0
    wrong: int = 0
    """Programs with other verdicts than expected."""
    first_cpu_ms: float = 0.0
    last_cpu_ms: float = 0.0
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
            f"CPU per program: first tenth {self.first_cpu_ms:.3f} ms, last tenth {self.last_cpu_ms:.3f} ms",
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
    with open_sandbox(backend, own=True) as pool:
        result = SoakResult(pool.name)
        cpu: list[float] = []
        _batch(pool, result, cpu)  # caches fill once
        cpu.clear()
        before = _look(pool)
        start = time.monotonic()
        while result.executions < executions and time.monotonic() - start < max_seconds:
            _batch(pool, result, cpu)
            if result.executions % 10_000 == 0:
                say(f"{result.executions} programs, {time.monotonic() - start:.0f} s")
        result.seconds = time.monotonic() - start
        after = _look(pool)
    tenth = max(1, len(cpu) // 10)
    # The fastest batches: what other processes do to the processor's caches is not our growth.
    result.first_cpu_ms, result.last_cpu_ms = min(cpu[:tenth]), min(cpu[-tenth:])
    result.memory_bytes = before[0], after[0]
    result.client_memory_bytes = before[1], after[1]
    result.descriptors = before[2], after[2]
    result.processes = before[3], after[3]
    result.growth = _growth(result)
    return result


def _batch(pool: Pool, result: SoakResult, cpu: list[float]) -> None:
    executions = pool.run([_PROGRAM] * _BATCH)
    result.executions += len(executions)
    result.wrong += sum(
        tuple(part.verdict for part in execution.results) != _EXPECTED for execution in executions
    )
    cpu.append(sum(execution.cpu_ms for execution in executions) / len(executions))


def _growth(result: SoakResult) -> list[str]:
    grown = []
    if result.wrong:
        grown.append("wrong verdicts")
    if result.last_cpu_ms > result.first_cpu_ms * (1 + MAX_SLOW_DOWN):
        grown.append("CPU time")
    if result.memory_bytes[1] - result.memory_bytes[0] > MAX_GROWTH_BYTES:
        grown.append("memory inside")
    if result.client_memory_bytes[1] - result.client_memory_bytes[0] > MAX_GROWTH_BYTES:
        grown.append("the client's memory")
    if result.descriptors[1] > result.descriptors[0]:
        grown.append("descriptors")
    if result.processes[1] > result.processes[0]:
        grown.append("processes")
    return grown


def _look(pool: Pool) -> tuple[int, int, int, int]:
    """Memory inside, memory here, descriptors here, processes inside."""
    inside = processes = 0
    for endpoint in pool.endpoints():
        facts = status(endpoint.socket_dir).facts
        inside += int(facts["memory_bytes"])
        processes += len(facts["slot_pids"]) + int(facts["n_children"])
    return inside, _resident(), len(os.listdir("/proc/self/fd")), processes


def _resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SandboxError("/proc/self/status must say VmRSS, got none; this needs Linux")
