"""What canonical solutions return: each is run in the sandbox, in an execution of its own, and remembered.

No answer is near when that happens. What comes back is source of values, and is read as that before it is used.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluator.problems.evalplus import literals
from sandbox.client import Sandbox, open_sandbox
from sandbox.pool.scripts import MAX_PRINTED

INPUT_S = 10.0
"""Processor time that a solution may take for one input."""
TIMEOUT_S = 60.0
"""Of one run of a solution; it stops by itself at half of that, and goes on with the next input in another run."""
VERSION = 2
"""Raised when the script below, or what it may say, changes."""
_TOGETHER = 32
"""Solutions that are run at a time, so that one who stops early keeps what was done."""


@dataclass(frozen=True)
class Question:
    """A solution and the inputs that it is asked."""

    code: str
    contract: str
    """Source of a function `_contract` that raises where an input is none; empty for none."""
    function: str
    inputs: tuple[str, ...]
    """Source of a tuple of arguments each."""
    only_found: bool
    """Whether only counts that a result is not None."""

    @cached_property
    def key(self) -> str:
        """Name under which the answer is remembered."""
        text = json.dumps([VERSION, asdict(self), inspect.getsource(literals)])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Value:
    """What came of one input: source of the value, or why there is none."""

    source: str
    floats: bool = False
    fault: str = ""


@dataclass(frozen=True)
class Answered:
    """What a solution returned for its inputs, in their order."""

    values: tuple[Value, ...]
    cpu_s: float
    """Processor time that the calls took, in seconds."""
    fault: str = ""
    """Why there are no values at all."""


def expected_values(questions: Sequence[Question], sandbox: Sandbox | str) -> list[Answered]:
    """Return what each solution returns; what is not remembered is run, in an open sandbox or one of that backend.

    Raises:
        SandboxError: the sandbox cannot be had, or failed.
    """
    known = {q.key: found for q in questions if (found := _remembered(q)) is not None}
    wanted = list({q.key: q for q in questions if q.key not in known}.values())
    if wanted:
        with contextlib.ExitStack() as stack:
            if isinstance(sandbox, str):
                sandbox = stack.enter_context(open_sandbox(sandbox))
            print(
                f"running {len(wanted)} canonical solutions once, for what they return",
                file=sys.stderr,
            )
            for start in range(0, len(wanted), _TOGETHER):
                part = wanted[start : start + _TOGETHER]
                for question, answered in zip(part, _run(part, sandbox), strict=True):
                    known[question.key] = answered
                    _remember(question, answered)
    return [known[question.key] for question in questions]


def _run(questions: Sequence[Question], sandbox: Sandbox) -> list[Answered]:
    """Run some solutions, again from where one stopped because no more values fit on the way back."""
    values: list[list[Value]] = [[] for _ in questions]
    faults = [""] * len(questions)
    cpu_s = [0.0] * len(questions)
    left = list(range(len(questions)))
    while left:
        scripts = [_script(questions[index], len(values[index])) for index in left]
        for index, text in zip(left, sandbox.printed(scripts, timeout_s=TIMEOUT_S), strict=True):
            said = _said(text, len(questions[index].inputs) - len(values[index]))
            faults[index] = said.fault
            values[index] += said.values
            cpu_s[index] += said.cpu_s
        left = [i for i in left if not faults[i] and len(values[i]) < len(questions[i].inputs)]
    return [
        Answered(tuple(v), round(s, 3), f) for v, s, f in zip(values, cpu_s, faults, strict=True)
    ]


# ------------------------------------------------------------------------------- in the sandbox

_HARNESS = """
import io, json, signal, sys, time
out, sys.stdout, sys.stderr = sys.stdout, io.StringIO(), io.StringIO()
kit, space, values, n = {{"__name__": "literals"}}, {{"__name__": "solution"}}, [], 0
exec(compile({literals!r}, "literals.py", "exec"), kit)

def what(error):
    text = (type(error).__name__ + ": " + str(error))[:200]
    return text.encode("utf-8", "backslashreplace").decode()

def floats(value):
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)

def late(*_):
    raise TimeoutError("it takes more than {input_s:g} s of a processor")

def one(source):
    arguments = eval(source)
    if {contract!r}:
        try:
            space["_contract"](*arguments)
        except BaseException as error:
            return ["", False, "it violates the contract (" + what(error) + ")"]
    try:
        signal.setitimer(signal.ITIMER_PROF, {input_s})
        try:
            value = space[{function!r}](*eval(source))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except BaseException as error:
        return ["", False, "the canonical solution raises " + what(error)]
    if {only_found}:
        value = value is not None
    try:
        return [kit["literal"](value), floats(value), ""]
    except kit["NoLiteral"] as error:
        return ["", False, "what the canonical solution returns must be " + str(error)]
    except BaseException as error:
        return ["", False, "what the canonical solution returns cannot be written down: " + what(error)]

signal.signal(signal.SIGPROF, late)
start = time.process_time()
try:
    exec(compile({code!r}, "solution.py", "exec"), space)
    if {contract!r}:
        exec(compile({contract!r}, "contract.py", "exec"), space)
    space[{function!r}]
except BaseException as error:
    print(json.dumps({{"fault": what(error)}}), file=out)
else:
    for source in {inputs!r}:
        values.append(one(source))
        n += len(json.dumps(values[-1], ensure_ascii=False).encode())
        if n > {room}:
            values.pop()
            break
        if time.process_time() - start > {run_s}:
            break
    said = {{"values": values, "cpu_s": time.process_time() - start}}
    print(json.dumps(said, ensure_ascii=False), file=out)
out.flush()
"""


def _script(question: Question, first: int) -> str:
    """The program that says what a solution returns, from the input `first` on."""
    return _HARNESS.format(
        literals=inspect.getsource(literals),
        code=question.code,
        contract=question.contract,
        function=question.function,
        only_found=question.only_found,
        input_s=INPUT_S,
        run_s=TIMEOUT_S / 2,
        inputs=list(question.inputs[first:]),
        # More than the longest value takes.
        room=MAX_PRINTED - 10_000,
    )


def _said(text: str | None, n_inputs: int) -> Answered:
    """Read what a script printed: a solution's own word, and no more than that."""
    if text is None:
        what = f"an end within {TIMEOUT_S:g} s and the sandbox's memory"
        return Answered((), 0.0, f"the canonical solution must come to {what}, got none")
    try:
        match json.loads(text):
            case {"fault": str(fault)}:
                return Answered((), 0.0, f"the canonical solution must load, got {fault:.200}")
            case {"values": [_, *_] as found, "cpu_s": float(cpu_s)} if len(found) <= n_inputs:
                return Answered(tuple(map(_value, found)), cpu_s)
    except (ValueError, RecursionError):
        pass
    return Answered((), 0.0, "the canonical solution must leave the output alone, got another")


def _value(found: Any) -> Value:  # noqa: ANN401 - JSON
    """One value, if it is source of plain data.

    Raises:
        ValueError: it is not.
    """
    match found:
        case [str(source), bool(floats), str(fault)]:
            if fault:
                return Value("", fault=fault[:400])
            if not is_literal(source):
                raise ValueError(source[:80])
            return Value(source, floats)
    raise ValueError(str(found)[:80])


_PLAIN = (
    *(ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Load),
    *(ast.UnaryOp, ast.USub, ast.UAdd),
)
BUILDERS = frozenset(
    "set frozenset complex float OrderedDict Counter deque range Decimal Fraction".split()
)
"""What the source of a value may call."""


def is_literal(source: str) -> bool:
    """Whether a text is an expression of plain data alone, as `literals` writes it."""
    if len(source) > literals.MAX_CHARS:
        return False
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return all(
        isinstance(node, _PLAIN)
        or (isinstance(node, ast.Call) and not node.keywords)
        or (isinstance(node, ast.Name) and id(node) in called and node.id in BUILDERS)
        for node in ast.walk(tree)
    )


# ------------------------------------------------------------------------------- remembered


def _file(question: Question) -> Path:
    """Where an answer is kept, as the XDG specification places caches."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sdpo-bench" / "expected" / f"{question.key}.json"


def _remembered(question: Question) -> Answered | None:
    """An answer of an earlier time; a file that is no such answer counts for none."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = _said(_file(question).read_text(), len(question.inputs))
        if not found.fault and len(found.values) == len(question.inputs):
            return found
    return None


def _remember(question: Question, found: Answered) -> None:
    """Keep an answer whole or not at all; without a cache the solution runs again."""
    if found.fault:
        return
    values = [[value.source, value.floats, value.fault] for value in found.values]
    path = _file(question)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({"values": values, "cpu_s": found.cpu_s}))
        part.replace(path)
