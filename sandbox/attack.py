"""Runs a folder of attacks against a sandbox and counts what they achieved.

A folder holds `index.json`, a list of entries (`name`, `file`, `assertions`, `test_imports`, `entry_point`, `expect`,
`must_finish_s`), and the files. After each attack an honest program must pass and a wrong one fail, through
the same supervisors, and no process of the attack may be left.
"""

from __future__ import annotations

import contextlib
import glob
import json
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sandbox.client import Sandbox, open_pool
from sandbox.pool.endpoint import status
from sandbox.pool.pool import Pool
from sandbox.program import Execution, Program, SandboxError, Verdict

SECRET_VARIABLE = "SECRET_CANARY"  # noqa: S105 - the name of a bait, not a password
_FIELDS = {"name", "file", "assertions", "test_imports", "entry_point", "expect", "must_finish_s"}
# Attacks that get to run code where the verdict is made leave a file of this name there.
_PAYLOADS = "pwned_*"


@dataclass(frozen=True)
class Attack:
    """One entry of an index, with its code."""

    name: str
    category: str
    program: Program
    expect_pass: bool
    must_finish_s: float
    this_sandbox_only: bool = False
    """Whether it spoils this sandbox's own channel and is otherwise right: no question to another grader."""


@dataclass(frozen=True)
class AttackResult:
    """What one attack achieved; empty `problems` is what is wanted."""

    name: str
    category: str
    expect: str
    passed: bool
    verdicts: list[str]
    seconds: float
    problems: list[str]
    """Of `forged_passes`, `false_failures`, `broken`, `survivors`, `poisoned`."""
    detail: str = ""
    skipped: bool = False
    """Whether a grader of others has no way to put this question."""


@dataclass
class Report:
    """Counts over a folder."""

    backend: str
    forged_passes: int = 0
    false_failures: int = 0
    broken: int = 0
    survivors: int = 0
    poisoned: int = 0
    skipped: int = 0
    attacks: list[AttackResult] = field(default_factory=list)

    def add(self, result: AttackResult) -> None:
        """Count one attack."""
        for problem in result.problems:
            setattr(self, problem, getattr(self, problem) + 1)
        self.skipped += result.skipped
        self.attacks.append(result)

    def by_category(self) -> str:
        """What passed though it must fail, for each kind of attack: `escape 2 of 30, forge 0 of 16`."""
        asked = [r for r in self.attacks if r.expect == "fail" and not r.skipped]
        n_asked = Counter(r.category for r in asked)
        n_passed = Counter(r.category for r in asked if "forged_passes" in r.problems)
        kinds = sorted({r.category for r in self.attacks})
        return ", ".join(f"{kind or 'other'} {n_passed[kind]} of {n_asked[kind]}" for kind in kinds)

    @property
    def clean(self) -> bool:
        """Whether nothing was achieved."""
        return not any(result.problems for result in self.attacks)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


def load(folder: Path) -> list[Attack]:
    """Read a folder of attacks.

    Raises:
        ValueError: no index there, or an entry that lacks a field.
    """
    index = folder / "index.json"
    if not index.is_file():
        raise ValueError(
            f"a folder of attacks must hold index.json, got none in {folder}; name one that does"
        )
    entries = json.loads(index.read_text())
    attacks = []
    for entry in entries:
        missing = _FIELDS - entry.keys()
        if missing:
            raise ValueError(
                f"an attack must have {sorted(_FIELDS)}, got none of {sorted(missing)}"
            )
        code = (folder / entry["file"]).read_bytes().decode("utf-8", "surrogateescape")
        program = Program(
            code=code,
            asserts=tuple(entry["assertions"]),
            callables=tuple(entry.get("callables", [entry["entry_point"]])),
            imports=tuple(entry["test_imports"]),
            setup_code=entry.get("setup_code", ""),
            timeout_s=entry.get("timeout_s", 3.0),
        )
        attacks.append(
            Attack(
                name=entry["name"],
                category=entry.get("category", ""),
                program=program,
                expect_pass=entry["expect"] == "pass",
                must_finish_s=entry["must_finish_s"],
                this_sandbox_only=entry.get("this_sandbox_only", False),
            )
        )
    return attacks


def run(
    attacks: Sequence[Attack],
    backend: str,
    *,
    without: frozenset[str] = frozenset(),
    over_http: bool = False,
    progress: Callable[[AttackResult], None] = lambda _: None,
) -> Report:
    """Run attacks one after the other against one sandbox of its own.

    Args:
        attacks: what is tried.
        backend: where.
        without: layers to leave out.
        over_http: ask through a server in front of the sandbox, as another machine would.
        progress: told of each result.

    Raises:
        SandboxError: the sandbox cannot be had at all.
    """
    bait = secrets.token_hex(16)
    pool = open_pool(backend, without=without, own=True, environment={SECRET_VARIABLE: bait})
    report = Report(backend=pool.name + "".join(f" without {layer}" for layer in sorted(without)))
    with contextlib.ExitStack() as stack:
        stack.enter_context(pool)
        asked: Sandbox = pool
        if over_http:
            asked = stack.enter_context(_over_http(stack, pool))
            report.backend = asked.name
        for attack in attacks:
            result = _run_one(attack, asked, pool, bait)
            report.add(result)
            progress(result)
    return report


def _over_http(stack: contextlib.ExitStack, pool: Pool) -> Sandbox:
    """Return the client of a server in front of a pool; `stack` ends the server."""
    # Here, not above: only this needs the extra `serve`.
    from sandbox.http.remote import Remote
    from sandbox.http.server import Server

    token = secrets.token_hex(32)
    server = stack.enter_context(Server(pool, token=token))
    return Remote(server.url, token=token)


def _run_one(attack: Attack, asked: Sandbox, pool: Pool, bait: str) -> AttackResult:
    restarts = pool.health.n_restarts
    before = payloads()
    execution: Execution | None = None
    found: list[tuple[str, str]] = []
    start = time.monotonic()
    try:
        execution = asked.run([attack.program])[0]
    except SandboxError as error:
        found.append(("broken", str(error)))
    seconds = time.monotonic() - start
    if _survivors(pool):
        found.append(("survivors", ""))
    passed = execution is not None and all(
        result.verdict == Verdict.PASSED and result.trusted for result in execution.results
    )
    if execution is not None and passed != attack.expect_pass:
        found.append(("false_failures" if attack.expect_pass else "forged_passes", ""))
    if seconds > attack.must_finish_s:
        found.append(("broken", f"took {seconds:.1f} s, may take {attack.must_finish_s} s"))
    if pool.health.n_restarts != restarts:
        found.append(("broken", "the supervisor had to be replaced"))
    if execution is not None and bait in repr(execution):
        found.append(("broken", "it read the supervisor's environment"))
    if not _canaries(pool) or payloads() != before:
        found.append(("poisoned", ""))
    return AttackResult(
        name=attack.name,
        category=attack.category,
        expect="pass" if attack.expect_pass else "fail",
        passed=passed,
        verdicts=[] if execution is None else [r.verdict.value for r in execution.results],
        seconds=round(seconds, 3),
        problems=sorted({problem for problem, _ in found}),
        detail="; ".join(detail for _, detail in found if detail),
    )


def _canaries(pool: Pool) -> bool:
    try:
        return pool.canaries()
    except SandboxError:
        return False


def _survivors(pool: Pool) -> int:
    """Processes that the slots still have as children."""
    n = 0
    for endpoint in pool.endpoints():
        try:
            n += int(status(endpoint.socket_dir).facts["n_children"])
        except (OSError, ValueError):
            # Nobody answers: that shows as broken or poisoned.
            continue
    return n


def payloads() -> set[str]:
    """Files that attacks left where the verdict is made, having run code there."""
    return set(glob.glob(str(Path(tempfile.gettempdir()) / _PAYLOADS)))
