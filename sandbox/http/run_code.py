"""Runs a program as a script, with what it reads and prints: SandboxFusion's `/run_code`, for Python.

The program's own word is all that comes back: nothing is judged here, so there is nothing to forge. Whoever asks
compares the output, and keeps the expected one to himself.

Source: https://github.com/bytedance/SandboxFusion, `RunCodeRequest` and `RunCodeResponse`.
"""

from __future__ import annotations

import binascii
import zlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sandbox.guest.protocol import Call, How, Job, ProtocolError
from sandbox.judge import verdict
from sandbox.pool.task import Outcome

MAX_STDOUT_BYTES, MAX_STDERR_BYTES = 600_000, 60_000
"""Kept of what a program prints, in UTF-8; the rest is cut off. As much as a result may have, incompressible."""
MAX_RUN_S = 300.0
_MAX_HEAD = 20
_MAX_PACKED = 2 * (MAX_STDOUT_BYTES + MAX_STDERR_BYTES)

_HARNESS = """
def run():
    import atexit, base64, builtins, io, sys, threading, traceback, types, zlib

    class Kept(io.BytesIO):
        def close(self):
            pass

    out, err, stdin = Kept(), Kept(), {stdin!r}.encode("utf-8", "surrogatepass")
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), "utf-8", "replace")
    sys.stdout = io.TextIOWrapper(out, "utf-8", "backslashreplace", write_through=True)
    sys.stderr = io.TextIOWrapper(err, "utf-8", "backslashreplace", write_through=True)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    streams, opened = {{0: sys.stdin, "/dev/stdin": sys.stdin, 1: sys.stdout, 2: sys.stderr}}, open

    def open_(file, *args, **kwargs):
        # Programs of contests read open(0); descriptor 0 is no terminal here and no pipe.
        return streams[file] if type(file) in (int, str) and file in streams else opened(file, *args, **kwargs)

    builtins.open = io.open = open_
    sys.argv = ["main.py"]
    main = types.ModuleType("__main__")
    main.__file__ = "main.py"
    sys.modules["__main__"] = main
    status, compress, encode = 0, zlib.compress, base64.b64encode
    try:
        exec(compile({code!r}, "main.py", "exec", dont_inherit=True), main.__dict__)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
    except SystemExit as raised:
        if raised.code is not None:
            status = raised.code & 255 if isinstance(raised.code, int) else 1
            if not isinstance(raised.code, int):
                err.write((str(raised.code) + "\\n").encode("utf-8", "replace"))
    except BaseException as raised:
        status = 1
        trace = raised.__traceback__.tb_next if raised.__traceback__ is not None else None
        lines = traceback.format_exception(type(raised), raised, trace)
        err.write("".join(lines).encode("utf-8", "replace"))
    printed, errors = out.getvalue()[:{max_out}], err.getvalue()[:{max_err}]
    return encode(compress(b"%d %d\\n" % (status, len(printed)) + printed + errors, 1)).decode()
"""


class RunCodeRequest(BaseModel):
    """What `/run_code` is asked; fields of other languages are ignored, as SandboxFusion ignores unknown ones."""

    model_config = ConfigDict(frozen=True)

    code: str = Field(description="the program")
    language: Literal["python"] = "python"
    stdin: str | None = Field(default="", description="what it reads from standard input")
    compile_timeout: float | None = Field(default=10, description="not used: nothing is compiled")
    run_timeout: float = Field(
        default=10, gt=0.001, le=MAX_RUN_S, allow_inf_nan=False, description="limit, seconds"
    )
    memory_limit_MB: int | None = Field(
        default=None, description="not used: the server's own limit holds"
    )
    files: dict[str, str | None] = Field(
        default={}, max_length=0, description="must be empty: a program has no files"
    )
    fetch_files: list[str] = Field(default=[], max_length=0, description="must be empty")


class RunResult(BaseModel):
    """How one program ended and what it printed."""

    model_config = ConfigDict(frozen=True)

    status: Literal["Finished", "Error", "TimeLimitExceeded"]
    execution_time: float | None = Field(description="wall-clock time, seconds")
    return_code: int | None = Field(description="exit status; None where it was ended")
    stdout: str | None
    stderr: str | None


class RunCodeResponse(BaseModel):
    """SandboxFusion's answer; `Success` is exit status 0 in time."""

    model_config = ConfigDict(frozen=True)

    status: Literal["Success", "Failed", "SandboxError"]
    message: str = ""
    compile_result: None = None
    run_result: RunResult | None = None
    executor_pod_name: None = None
    files: dict[str, str] = {}


def script(code: str, stdin: str) -> Job:
    """Return the job that runs a program as `python main.py` would."""
    harness = _HARNESS.format(
        code=code, stdin=stdin, max_out=MAX_STDOUT_BYTES, max_err=MAX_STDERR_BYTES
    )
    return Job((), harness, "", ((Call("run()"),),))


def told(outcome: Outcome | None) -> RunCodeResponse:
    """Return what came of a script; None came of one that was too large to be sent."""
    if outcome is None:
        return _failed("Error", None, "the program is too large to be run")
    wall_s = outcome.header.wall_us / 1e6
    if outcome.header.how == How.DEADLINE:
        return _failed("TimeLimitExceeded", wall_s, "")
    try:
        found = _found(outcome.body, wall_s)
    except ProtocolError:
        found = None  # it wrote to the result channel itself
    if found is not None:
        return RunCodeResponse(
            status="Failed" if found.return_code else "Success", run_result=found
        )
    how, code = outcome.header.how, outcome.header.code
    if how == How.OOM:
        return _failed("Error", wall_s, "the program used more memory than it may")
    # Status 0 and no word of the harness: it left by os._exit, and what it printed with it.
    text = "the process ended before the program did"
    return _failed("Error", wall_s, text, code=-code if how == How.SIGNALED else code)


def _failed(
    status: Literal["Error", "TimeLimitExceeded"],
    wall_s: float | None,
    stderr: str,
    *,
    code: int | None = None,
) -> RunCodeResponse:
    result = RunResult(
        status=status, execution_time=wall_s, return_code=code, stdout="", stderr=stderr
    )
    return RunCodeResponse(status="Failed", run_result=result)


def _found(body: bytes, wall_s: float) -> RunResult | None:
    """Read the harness's words: hostile, because the program may have written them itself."""
    facts = verdict.parse_body(body, 1)
    if not facts.steps or not isinstance(facts.steps[0], tuple) or len(facts.steps[0]) != 1:
        return None
    match facts.steps[0][0]:
        case str(packed):
            data = _unpacked(packed.encode("utf-8", "replace"))
        case {"Z": str(twice)}:
            # A long text; its JSON is the text in quotes, and is not parsed: it could be anything.
            data = _unpacked(_unpacked(twice.encode("utf-8", "replace")).strip(b'"'))
        case _:
            raise ProtocolError("a script's end must be text")
    head, _, printed = data.partition(b"\n")
    words = head.split(b" ") if len(head) <= _MAX_HEAD else []
    if len(words) != 2 or not all(word.isdigit() for word in words):
        raise ProtocolError("a script's end must begin with its status and a size")
    status, n_stdout = map(int, words)
    # What was cut in the middle of a character ends before it.
    stdout, stderr = (
        part.decode("utf-8", "ignore") for part in (printed[:n_stdout], printed[n_stdout:])
    )
    return RunResult(
        status="Finished",
        execution_time=wall_s,
        return_code=status & 255,
        stdout=stdout,
        stderr=stderr,
    )


def _unpacked(text: bytes) -> bytes:
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(binascii.a2b_base64(text), _MAX_PACKED)
    except (ValueError, zlib.error) as error:
        raise ProtocolError(f"a script's end must be packed: {error}") from error
    if not stream.eof:
        raise ProtocolError(f"a script's end must fit {_MAX_PACKED} bytes")
    return data
