"""The untrusted side: takes away its own means, runs a program, ships the values of its calls.

The one place of the project that executes code it did not write. Nothing here decides whether an assert
passes; everything it writes is read by the host as hostile text.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` wraps calls in enums: 30 more pages to copy
import _sitebuiltins
import atexit
import builtins
import ctypes
import fcntl
import json
import os
import resource
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from sandbox.guest import landlock, seccomp, values
from sandbox.guest.console import Console
from sandbox.guest.output import Capture
from sandbox.guest.protocol import Job, ProtocolError, RequestHeader, parse_job
from sandbox.guest.values import Value

CANDIDATE = "<solution>"
RESULT_FD = 3
MAX_MESSAGE = 600
MAX_THREADS = 24
RESERVED_BYTES = 32_768
"""Room in the pipe for the lines that say so when values do not fit, and for the output's tail."""
EXIT_NOT_CONFINED, EXIT_BAD_JOB, EXIT_NO_RESULT = 125, 126, 127
"""Ends before any hostile code ran, twice; and one where the result could not be written."""
_MAX_FD = 4096
# The lines that nearly every program has, ready to be written.
_LOADED, _ENDED = b'["load",null]\n', b'["end","",false]\n'
_NO_OUTPUT = ("", False)
_NO_ROOM = '{"o":["object","<too large to ship>",true,false,null]}'
"""A value after those that filled the pipe."""
_FRAMES_BETWEEN = 6 if sys.version_info >= (3, 12) else 7
"""From a slot's `serve` to a program's first frame: `handle`, `_run`, `become`, `run`, `_evaluate` and what that
calls; before 3.12 a call of `eval` counts as one, too."""
_RECURSION_LIMIT = sys.getrecursionlimit()
_encode_json = json.JSONEncoder(separators=(",", ":")).encode


class Layers(NamedTuple):
    """The means a child is stripped of; what a machine cannot do is None or 0."""

    uid: int
    """User and group of the child; 0 keeps the supervisor's."""
    seccomp: seccomp.Filter | None
    landlock: landlock.Ruleset | None
    threads: int
    """Processes and threads that the child's own user may have; 0 where the kernel counts none."""

    def steps(self, header: RequestHeader, *, result: int, null: int) -> Steps:
        """Return the calls that strip a child, from what needs privilege to what takes the means away.

        They are looked up before the fork: what a child looks up itself it writes to the interpreter's caches,
        and a page that is written is a page to copy.

        Args:
            header: with the limits.
            result: the end of the pipe that takes what the program returns.
            null: /dev/null, opened for this child alone: an open file's flags outlive the program that sets them.
        """
        seconds = -(-header.timeout_ms // 1000) + 1
        memory = header.memory_bytes
        steps: list[tuple[Callable[..., object], tuple[Any, ...]]] = [
            (_signal.pthread_sigmask, (_signal.SIG_SETMASK, ())),
            *((os.dup2, (null, fd)) for fd in (0, 1, 2)),
            (os.dup2, (result, RESULT_FD, False)),
            (os.set_blocking, (RESULT_FD, False)),
            (os.setsid, ()),
            (resource.setrlimit, (resource.RLIMIT_CPU, (seconds, seconds + 1))),
            (resource.setrlimit, (resource.RLIMIT_AS, (memory, memory))),
        ]
        if self.uid:
            if self.threads:
                limit = (self.threads, self.threads)
                steps.append((resource.setrlimit, (resource.RLIMIT_NPROC, limit)))
            steps.append((os.setresgid, (self.uid, self.uid, self.uid)))
            steps.append((os.setresuid, (self.uid, self.uid, self.uid)))
        elif os.geteuid() == 0:
            steps.append((_drop_capabilities, ()))
        if self.landlock is not None:
            steps.append((self.landlock.restrict, ()))
        # No descriptor is left but the result's: the program can reach nobody.
        steps.append((os.closerange, (RESULT_FD + 1, _MAX_FD)))
        if self.seccomp is not None:
            steps.append((self.seccomp.install, ()))
        return steps


Steps: TypeAlias = Sequence[tuple[Callable[..., object], tuple[Any, ...]]]
"""Functions and what each is called with."""


def _drop_capabilities() -> None:
    """Leave root nothing but its name, where a user of the child's own could not read the library."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None).capset(header, nothing) != 0:
        raise OSError("capabilities must go, and did not")


def receive(fd: int, n: int) -> bytes:
    """Read exactly `n` bytes.

    Raises:
        ProtocolError: the other side closed before.
    """
    parts = []
    while n:
        part = os.read(fd, min(n, 1 << 20))
        if not part:
            raise ProtocolError(f"a job must be complete, got {n} bytes too few")
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def become(connection: int, n_bytes: int, steps: Steps, capture: Capture) -> None:
    """Turn this forked process into a child that runs one job, and end it."""
    status = EXIT_NOT_CONFINED
    try:
        data = receive(connection, n_bytes)
        for call, arguments in steps:
            call(*arguments)
        status = EXIT_BAD_JOB
        job = parse_job(data)
        del data
        status = EXIT_NO_RESULT
        run(job, RESULT_FD, capture)
        status = 0
    finally:
        # No way back into the slot's code, whatever was raised, and no teardown of the interpreter.
        os._exit(status)


def set_stage() -> None:
    """Leave the interpreter as `python -c` leaves it: done once, before the forks.

    This interpreter starts without `site`, and its arguments and main module are the supervisor's.
    """
    for name, text in (("exit", "Ctrl-D (i.e. EOF)"), ("quit", "Ctrl-D (i.e. EOF)")):
        setattr(builtins, name, _sitebuiltins.Quitter(name, text))
    for name in ("copyright", "credits", "license"):
        setattr(builtins, name, _sitebuiltins._Printer(name, f"See {name} of Python."))
    builtins.help = _sitebuiltins._Helper()
    sys.argv, sys.orig_argv = ["-c"], [sys.executable, "-c"]
    sys.modules["__main__"] = types.ModuleType("__main__")


def leave_room(n_frames: int) -> None:
    """Let programs have as many frames as they have on their own, above `n_frames` of a slot: before the forks."""
    sys.setrecursionlimit(_RECURSION_LIMIT + n_frames + _FRAMES_BETWEEN)


def run(job: Job, result: int, capture: Capture) -> None:
    """Run a program and write one JSON line for its loading, one for each assert, one for the end."""
    if job.stdin is not None:
        _run_main(job, job.stdin, _Shipment(result), capture)
        return
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    ship = _Shipment(result)
    failure = _load(job, module.__dict__)
    if failure is not None:
        ship.line(_encode_json(["load", failure]))
    else:
        os.write(result, _LOADED)
        for index, step in enumerate(job.steps):
            ship.line(_evaluate(index, step, module.__dict__, ship.left))
    tail = capture.tail()
    if tail == _NO_OUTPUT:
        os.write(result, _ENDED)
    else:
        ship.line(_encode_json(["end", *tail]))


def _run_main(job: Job, stdin: str, ship: _Shipment, capture: Capture) -> None:
    """Run a whole program on an input, to the end of its threads; what it printed is the value of the one step."""
    console = Console(stdin)
    console.install()
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    failure = _load(job, module.__dict__) or _ended()
    if failure is not None:
        ship.line(_encode_json(["load", failure]))
    else:
        ship.line(_encode_json(["load", None]))
        text = values.write(console.output(), room=ship.left)
        ship.line(f'["assert",0,null,[{text if len(text) < ship.left else _NO_ROOM}]]')
    ship.line(_encode_json(["end", *capture.tail()]))


def _ended() -> dict[str, Value] | None:
    """Do what an interpreter does after the main module: wait for threads, call what was registered."""
    try:
        threading = sys.modules.get("threading")
        if threading is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException as raised:  # noqa: BLE001 - hostile code, any exception
        return _failure(raised, None)
    return None


class _Shipment:
    """Writes lines and knows how much room is left for them."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.left = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) - RESERVED_BYTES

    def line(self, text: str) -> None:
        data = text.encode() + b"\n"
        self.left -= len(data)
        os.write(self._fd, data)


def _load(job: Job, namespace: dict[str, Value]) -> dict[str, Value] | None:
    """Run imports, the program and the setup code; return the first failure."""
    # Without dont_inherit each would be compiled with the `from __future__` of this module.
    try:
        for line in job.imports:
            exec(compile(line, "<imports>", "exec", dont_inherit=True), namespace)
        exec(compile(job.code, CANDIDATE, "exec", dont_inherit=True), namespace)
        if job.setup_code:
            exec(compile(job.setup_code, "<setup>", "exec", dont_inherit=True), namespace)
    except BaseException as raised:  # noqa: BLE001 - hostile code, any exception
        if job.stdin is not None and type(raised) is SystemExit and raised.code in (None, 0):
            return None  # the ordinary end of a whole program
        return _failure(raised, None)
    return None


def _evaluate(index: int, step: Value, namespace: dict[str, Value], room: int) -> str:
    """Evaluate the calls of one assert; return the line with their values, or with what one raised."""
    texts = []
    for call in step:
        try:
            code = compile(call.source, "<call>", "eval", dont_inherit=True)
            value = eval(code, namespace)  # noqa: S307
            text = values.write(value, iterate=call.iterate, room=room)
        except BaseException as raised:  # noqa: BLE001 - hostile code, any exception
            return _encode_json(["assert", index, _failure(raised, call.source), None])
        texts.append(text if len(text) < room else _NO_ROOM)
        room -= len(text)
    return f'["assert",{index},null,[{",".join(texts)}]]'


def _failure(raised: BaseException, call: str | None) -> dict[str, Value]:
    """Describe an exception; its text and its type's name are the program's own words."""
    line = None
    trace = raised.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == CANDIDATE:
            line = trace.tb_lineno
        trace = trace.tb_next
    if isinstance(raised, SyntaxError) and raised.filename == CANDIDATE:
        line = raised.lineno if type(raised.lineno) is int else None
    try:
        text = raised.msg if isinstance(raised, SyntaxError) else str(raised)
        message = "".join(str.__iter__(text))[:MAX_MESSAGE]
    except BaseException as other:  # noqa: BLE001 - hostile __str__, any exception
        message = f"<its text raised {values._type_name(other)}>"
    return {"type": values._type_name(raised), "message": message, "line": line, "call": call}
