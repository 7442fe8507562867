"""Runs a folder of attacks against somebody else's grader: any command that takes JSON and says a verdict.

One process an attack. It reads one JSON object on standard input: `name`, `code`, `entry_point`, `callables`,
`imports`, `setup_code`, `asserts`, `timeout_s`. The last line that it writes to standard output is an object with
`passed`: true, false, or null where it has no way to put the question. `sandbox/graders` holds three such commands.

The attacks run with whatever rights the command gives them: give it a container of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from sandbox.attack import Attack, AttackResult, Report, payloads
from sandbox.guest.slot import children_of
from sandbox.pool.pool import HONEST, WRONG
from sandbox.program import Program, SandboxError

START_S = 20.0
"""Beside an attack's own time: what the command may take to start, a container's start included."""
_PR_SET_CHILD_SUBREAPER = 36
_MAX_ANSWER_BYTES = 1 << 20
_NO_VERDICT = "no verdict"


def run(
    attacks: Sequence[Attack], command: str, *, progress: Callable[[AttackResult], None]
) -> Report:
    """Run attacks one after the other; after each, an honest program must pass and a wrong one fail.

    Raises:
        SandboxError: the command cannot be started, or does not grade an honest program and a wrong one.
    """
    words = shlex.split(command)
    if not _canaries(words):
        raise SandboxError(
            f"a grader must pass an honest program and fail a wrong one, got another answer of {command!r}; "
            "try it by hand, docs/sandbox.md says what it reads and writes"
        )
    report = Report(backend=command)
    # Whatever outlives the command becomes our child, and is found.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        for attack in attacks:
            if attack.this_sandbox_only:
                continue
            report.add(result := _run_one(attack, words))
            progress(result)
    finally:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    return report


def _run_one(attack: Attack, words: Sequence[str]) -> AttackResult:
    before, ours = payloads(), set(_children())
    start = time.monotonic()
    said = _ask(words, attack.program, name=attack.name, limit_s=attack.must_finish_s + START_S)
    seconds = time.monotonic() - start
    passed, skipped = said == "passed", said == "skipped"
    problems: list[str] = []
    if _end(set(_children()) - ours):
        problems.append("survivors")
    if said == _NO_VERDICT:
        problems.append("broken")
    elif not skipped and passed != attack.expect_pass:
        problems.append("false_failures" if attack.expect_pass else "forged_passes")
    if not _canaries(words) or payloads() != before:
        problems.append("poisoned")
    return AttackResult(
        name=attack.name,
        category=attack.category,
        expect="pass" if attack.expect_pass else "fail",
        passed=passed,
        verdicts=[said],
        seconds=round(seconds, 3),
        problems=problems,
        skipped=skipped,
    )


def _canaries(words: Sequence[str]) -> bool:
    """Whether the grader passes an honest program and fails a wrong one."""
    said = [_ask(words, program, name="canary", limit_s=START_S) for program in (HONEST, WRONG)]
    return said == ["passed", "failed"]


def _ask(words: Sequence[str], program: Program, *, name: str, limit_s: float) -> str:
    """Have one program graded: `passed`, `failed`, `skipped`, or `no verdict` where none comes in time."""
    fields = ("code", "callables", "imports", "setup_code", "asserts", "timeout_s")
    question = {field: vars(program)[field] for field in fields}
    question |= {"name": name, "entry_point": program.callables[0]}
    try:
        grader = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxError(
            f"a grader must be a command that starts, got {error.strerror}: {words[0]!r}"
        ) from error
    with grader:
        try:
            said, _ = grader.communicate(json.dumps(question).encode(), timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(grader.pid, signal.SIGKILL)
            return _NO_VERDICT
    return _verdict(said[-_MAX_ANSWER_BYTES:])


def _verdict(said: bytes) -> str:
    lines = said.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except (ValueError, RecursionError):
        return _NO_VERDICT
    if not isinstance(answer, dict) or not isinstance(answer.get("passed", 0), bool | None):
        return _NO_VERDICT
    return {True: "passed", False: "failed", None: "skipped"}[answer["passed"]]


def _children() -> list[int]:
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        return children_of(os.getpid(), proc)
    finally:
        os.close(proc)


def _end(left: set[int]) -> int:
    """End processes that the command left running, and what they start meanwhile; return how many there were."""
    n, ours = len(left), set(_children()) - left
    while left:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        left = set(_children()) - ours
    return n
