"""The judge in a separate process with limits, for values whose cost cannot be told from their size.

Run as `python -P -S -m sandbox.judge.worker`. It is this project's code on plain data, so nothing hostile
runs in it; the limits bound the time and memory that such data can take. A process that is over a limit is
gone, and with it what it was judging; the next program gets another one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from sandbox.guest import values
from sandbox.guest.protocol import How, Reply, ResponseHeader
from sandbox.guest.values import Value
from sandbox.judge import decode
from sandbox.judge.asserts import Assertion, parse
from sandbox.program import AssertResult, Program, SandboxError, Verdict

CPU_S, CPU_S_EACH = 0.7, 0.005
"""Processor time for the asserts of one program, all together: so much, and so much for each."""
MEMORY_BYTES = 256 << 20
"""Address space of the process, the interpreter's own included."""
_WALL_S = 60.0
"""After which a process that got no processor time is given up: our failure, not the program's."""
_RECURSION_LIMIT = 10_000
_PROGRAMS_EACH = 1000
"""Programs after which a process is replaced, so that nothing can grow."""
_EXIT_TOO_LARGE = 3
_SIZES = struct.Struct("=II")


def judge(
    program: Program,
    assertions: Sequence[Assertion],
    header: ResponseHeader,
    body: bytes,
    asides: Mapping[str, Value],
) -> tuple[list[AssertResult], str, bool]:
    """Judge as many of a program's asserts as the limits allow; return their results, and the output as `Facts` do.

    Raises:
        SandboxError: no such process can be had.
    """
    request = {
        "assertions": [(parsed.source, parsed.callables) for parsed in assertions],
        "timeout_s": program.timeout_s,
        "header": header[1:],
        "asides": {source: values.encode(value) for source, value in asides.items()},
    }
    text = json.dumps(request).encode()
    message = _SIZES.pack(len(text), len(body)) + text + body
    for _ in range(2):
        process = _idle_or_new()
        lines = process.ask(message)
        if lines is not None:
            break
        process.end()
    else:
        raise SandboxError(
            f"a judge must answer within {_WALL_S:g} s, got none twice; is the machine overloaded?"
        )
    unfinished: dict[str, Any] = {"again": False, "tail": "", "truncated": False}
    end = lines.pop() if _is_complete(lines) else unfinished
    if end["again"] and process.n_programs < _PROGRAMS_EACH:
        _idle.append(process)
    else:
        process.end()
    return [_result(line) for line in lines], end["tail"], end["truncated"]


def _result(fields: list[Any]) -> AssertResult:
    assertion, verdict, *others = fields
    return AssertResult(assertion, Verdict(verdict), *others)


def _is_complete(lines: Sequence[Any]) -> bool:
    return bool(lines) and isinstance(lines[-1], dict)


class _Process:
    """A running judge."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2]
        self.n_programs = 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-S", "-m", "sandbox.judge.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # The sets that it builds have the order of those inside.
            env={"PYTHONPATH": str(root), "PYTHONHASHSEED": "0"},
        )
        self._stdin = cast("IO[bytes]", self._process.stdin)
        self._stdout = cast("IO[bytes]", self._process.stdout)
        if not self._lines():
            raise SandboxError("a judge must start, got none; does this Python find the project?")

    def ask(self, message: bytes) -> list[Any] | None:
        """Send a request, return the lines of the answer; None where the process had no chance.

        Without the line that ends them the process is gone: it was over a limit.

        Raises:
            SandboxError: it ended for another reason.
        """
        self.n_programs += 1
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(message)
            self._stdin.flush()
        lines = self._lines()
        if lines is not None and not _is_complete(lines):
            status = self._process.wait()
            if status == -signal.SIGKILL:
                return None
            if status not in (-signal.SIGPROF, _EXIT_TOO_LARGE, -signal.SIGSEGV):
                raise SandboxError(f"a judge must not fail, got exit status {status}")
        return lines

    def _lines(self) -> list[Any] | None:
        data = b""
        deadline = time.monotonic() + _WALL_S
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._stdout], [], [], left)[0]:
                return None
            part = os.read(self._stdout.fileno(), 1 << 16)
            data += part
            lines = data.split(b"\n")
            if not part or (len(lines) > 1 and lines[-2].startswith(b"{")):
                return [json.loads(line) for line in lines[:-1]]

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._stdin, self._stdout):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


_idle: list[_Process] = []
"""The judges that wait; a thread takes one for itself, and a fork leaves them to the parent."""
os.register_at_fork(after_in_child=_idle.clear)


def _idle_or_new() -> _Process:
    try:
        return _idle.pop()  # in one step: no other thread gets the same
    except IndexError:
        return _Process()


def main() -> None:
    """Judge what comes on standard input until it closes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(_RECURSION_LIMIT)
    requests = sys.stdin.buffer
    _answer({"ready": True})
    while sizes := requests.read(_SIZES.size):
        n_request, n_body = _SIZES.unpack(sizes)
        request = json.loads(requests.read(n_request))
        body = requests.read(n_body)
        try:
            # Before the clock: the asserts are trusted, and a long one takes its time to read.
            assertions = [parse(source, tuple(names)) for source, names in request["assertions"]]
            # The default action of its signal ends the process.
            signal.setitimer(signal.ITIMER_PROF, CPU_S + CPU_S_EACH * len(assertions))
            end = _judge(request, assertions, body)
        except (MemoryError, RecursionError):
            os._exit(_EXIT_TOO_LARGE)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _answer(end)


def _judge(request: dict[str, Any], assertions: Sequence[Assertion], body: bytes) -> dict[str, Any]:
    """Answer with a line for each assert; return the line that ends them."""
    from sandbox.judge.verdict import Judging  # it imports this module to have such a process

    how, *numbers = request["header"]
    judging = Judging(
        Program("", (), (), timeout_s=request["timeout_s"]),
        assertions,
        ResponseHeader(Reply.ENDED, How(how), *numbers),
        body,
        {source: decode.decode(value) for source, value in request["asides"].items()},
    )
    for result in judging:
        _answer(dataclasses.astuple(result))
    facts = judging.facts
    return {
        "tail": facts.output_tail,
        "truncated": facts.output_truncated,
        # After an allocation that failed, memory may be in pieces.
        "again": not judging.out_of_memory,
    }


def _answer(line: dict[str, Any] | tuple[Any, ...]) -> None:
    sys.stdout.buffer.write(json.dumps(line).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
