"""One programming problem, built and checked from a row in MBPP's form."""

from __future__ import annotations

import ast
import builtins
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from analysis.task_ids import TaskId, task_id, task_order
from evaluator.answers.definition import top_level_names
from evaluator.answers.function_body import function_beginning
from sandbox.program import EXACT, Case, Comparison


class DatasetError(Exception):
    """The problems could not be had as asked; the message says what to do."""


@dataclass(frozen=True)
class Problem:
    """One programming problem with its asserts and reference solution; line ends are LF."""

    task_id: TaskId
    text: str
    asserts: tuple[str, ...] = ()
    """What grades an answer, the hidden ones last; empty where `cases` do."""
    setup_code: str = ""
    """Statements run after the candidate and before the asserts."""
    imports: tuple[str, ...] = ()
    """Statements that the asserts need, for example `import math`."""
    reference: str = ""
    """A solution; empty where there is none."""
    callables: tuple[str, ...] = ()
    """Names that an answer defines and the asserts call; the first is the tested function."""
    challenge_asserts: tuple[str, ...] = ()
    reference_cpu_s: float = 0.0
    """Processor time that the reference takes, in seconds, where that is over one; else 0."""
    n_hidden: int = 0
    """The last so many asserts or cases grade, and are shown nowhere: not in a prompt, not in feedback."""
    tags: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    """Inputs of a whole program with what it must print, in place of asserts."""
    comparison: Comparison = EXACT
    """How printed output is compared with what is expected."""
    time_limit_s: float | None = None
    """Of one run of the program, seconds; None takes the limit of the command."""
    memory_bytes: int | None = None
    """Of one run beside what the interpreter takes; None takes the sandbox's."""

    @property
    def n_tests(self) -> int:
        """Asserts or cases that grade an answer."""
        return len(self.asserts) or len(self.cases)

    @property
    def n_visible(self) -> int:
        """How many of them may be shown: they stand first."""
        return self.n_tests - self.n_hidden

    @property
    def visible_asserts(self) -> tuple[str, ...]:
        """Asserts that may be shown."""
        return self.asserts[: self.n_visible]

    @cached_property
    def beginning(self) -> str:
        """Signature and docstring of the tested function where the text ends in them, as HumanEval's do."""
        return function_beginning(self.text, self.callables[0]) if self.callables else ""


@dataclass(frozen=True)
class ProblemSet:
    """Some problems, in order of task id, and the identity of their source."""

    name: str
    """e.g. `mbpp/sanitized/test`, `embedded/train`."""
    sha256: str
    """Of the source's normalised rows, all splits: the same for a local file and for the hub."""
    problems: tuple[Problem, ...]
    source: str = ""
    """Where the rows came from: a file, or the hub dataset and its revision."""


def rows_sha256(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the sha256 over the normalised rows in order of task id, one canonical JSON each."""
    digest = hashlib.sha256()
    for row in sorted(rows, key=by_task_id):
        content = {key: value for key, value in sorted(row.items())}
        digest.update(json.dumps(content, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def find_callables(reference: str, asserts: Sequence[str], setup_code: str = "") -> tuple[str, ...]:
    """Return the names that the reference defines and the asserts, then the setup code, call.

    The outermost call of the first assert comes first: it is the tested function. That is not
    always the reference's first `def`, and it can bear a builtin's name (task 126 defines `sum`).

    Raises:
        SyntaxError: one of the texts is no Python.
    """
    defined = top_level_names(ast.parse(reference).body, imports=False)
    called = called_names((*asserts, setup_code))
    return tuple(dict.fromkeys(name for name in called if name in defined))


def called_names(texts: Sequence[str]) -> Iterator[str]:
    """Yield the names that some statements call, the outermost call first.

    Raises:
        SyntaxError: one of the texts is no Python.
    """
    for text in texts:
        for node in _preorder(ast.parse(text.strip())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield node.func.id


def normalised_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of either MBPP file in one form, with LF line ends."""
    return {
        "task_id": int(row["task_id"]),
        # The sanitized file calls the description `prompt`.
        "text": lf(row["text"] if "text" in row else row["prompt"]),
        "code": lf(row["code"]),
        "test_list": [lf(text) for text in row["test_list"]],
        "test_setup_code": lf(row.get("test_setup_code") or ""),
        "test_imports": [lf(text) for text in row.get("test_imports") or ()],
        "challenge_test_list": [lf(text) for text in row.get("challenge_test_list") or ()],
    }


def lf(text: str) -> str:
    """Return the text with LF line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def problem_from_row(row: Mapping[str, Any]) -> Problem:
    """Build a problem from a normalised row."""
    asserts = tuple(text.strip() for text in row["test_list"])
    challenge = tuple(text.strip() for text in row["challenge_test_list"])
    callables = find_callables(row["code"], asserts, row["test_setup_code"])
    return Problem(
        task_id=row["task_id"],
        text=row["text"].strip(),
        asserts=asserts,
        setup_code=row["test_setup_code"],
        imports=needed_imports(row["test_imports"], (*asserts, *challenge), row["code"]),
        reference=row["code"],
        callables=callables,
        challenge_asserts=challenge,
        reference_cpu_s=_SLOW_REFERENCES.get((row["task_id"], *callables[:1]), 0.0),
    )


_SLOW_REFERENCES: Mapping[tuple[object, ...], float] = {(123, "amicable_numbers_sum"): 3.5}
"""By task and tested function; of all 974 of MBPP the next takes 0.01 s. Seen: 1.8 to over 5 s, as fast as the machine
was at the moment; `python -m benchmarks.evaluation grading --dataset full/all` prints it."""


def needed_imports(
    imports: Sequence[str], asserts: Sequence[str], reference: str
) -> tuple[str, ...]:
    """Return the imports and those of the reference that only the asserts rely on.

    Task 596 compares with `sys.getsizeof(...)` and leaves `import sys` to the solution; a
    candidate that does not need `sys` must not fail for it.
    """
    given = [text.strip() for text in imports if text.strip()]
    bound = set(dir(builtins)).union(*(top_level_names(ast.parse(text).body) for text in given))
    used = {
        node.id
        for text in asserts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Name)
    }
    for statement in ast.parse(reference).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            names = top_level_names([statement])
            if names & (used - bound):
                given.append(ast.unparse(statement))
                bound |= names
    return tuple(given)


def _preorder(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a tree, a parent before its children and those in source order."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(list(ast.iter_child_nodes(node))))


def by_task_id(row: Mapping[str, Any]) -> str:
    """Return the sorting key of a row."""
    return task_order(task_id(row["task_id"]))
