"""Turns a row of evalplus' files into a problem: its inputs become asserts, each with what the solution returned.

Columns: `task_id`, `prompt` (a docstring, or the beginning of a function), `entry_point`, `canonical_solution`,
`base_input` and `plus_input` (lists of arguments), `atol`, `contract` (statements that raise where an input is none).
Base inputs are visible tests, plus inputs hidden ones. An input that violates the contract, or for which the solution
gives nothing that can be written down, is left out.
Source: https://github.com/evalplus/evalplus, release 0.3.1.
"""

from __future__ import annotations

import ast
import contextlib
import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from analysis.task_ids import TaskId, checked_task_id
from evaluator.problems.evalplus import rules
from evaluator.problems.evalplus.expected import BUILDERS, Answered, Question
from evaluator.problems.evalplus.inputs import arguments_of
from evaluator.problems.evalplus.literals import NoLiteral, literal
from evaluator.problems.human_eval import preamble
from evaluator.problems.own_row import MAX_TESTS, RowError, plain_text
from evaluator.problems.problem import Problem, lf

_COLUMNS = {"task_id", "prompt", "entry_point", "canonical_solution", "base_input"}
_GROUPS = ("base_input", "plus_input")
_TAKEN = {"judge", *BUILDERS}
"""An answer of such a name would write what is expected of it."""
_MAX_CHARS = 100_000
"""Of a problem's asserts in all: each is taken apart for each answer, at ten to twenty microseconds a character."""
_SLOW_S = 1.0
"""A solution that takes longer than that, in processor time, brings its problem a limit of its own."""


@dataclass(frozen=True)
class _Call:
    """One input that can be written down."""

    place: str
    """e.g. `plus_input 3`, from 1."""
    arguments: tuple[Any, ...]
    source: str
    """Of the tuple of the arguments."""


@dataclass(frozen=True)
class Row:
    """A row as it stands in the file, checked as far as that goes without running anything."""

    task_id: TaskId
    text: str
    function: str
    reference: str
    imports: tuple[str, ...]
    groups: tuple[tuple[_Call, ...], ...]
    """Of base and plus inputs."""
    tolerance: float
    family: str
    """`mbpp`, `humaneval` or empty."""
    contract: str
    left_out: tuple[str, ...]
    """Inputs that cannot be written down, each with the reason."""

    @property
    def question(self) -> Question:
        """What must be run to know the expected values."""
        return Question(
            self.reference,
            self.contract,
            self.function,
            tuple(call.source for group in self.groups for call in group),
            self.family == "mbpp" and self.function in rules.AS_FOUND,
        )


def is_row(values: Mapping[str, Any]) -> bool:
    """Whether a row is one of evalplus'."""
    return _COLUMNS <= set(values)


def read_row(values: Mapping[str, Any]) -> Row:
    """Check a row.

    Raises:
        RowError: it is not as evalplus writes it.
    """
    try:
        task_id = checked_task_id(values["task_id"])
    except ValueError as error:
        raise RowError(str(error).replace("a task id", "task_id", 1)) from error
    prompt, solution = (plain_text(name, values[name]) for name in ("prompt", "canonical_solution"))
    function = values["entry_point"]
    if not isinstance(function, str) or not function.isidentifier():
        raise RowError(f"entry_point must be the name of a function, got {function!r:.60}")
    if function in _TAKEN:
        raise RowError(f"entry_point must be no name that asserts need, got {function!r}")
    described = _docstring(prompt)
    reference = solution.strip("\n") if described is not None else prompt + solution
    tree = _parsed("prompt and canonical_solution", reference)
    defined = _definition(tree, function)
    family, task = _family(task_id)
    left_out: list[str] = []
    groups = tuple(_calls(name, values.get(name), task, left_out) for name in _GROUPS)
    if not any(groups):
        said = left_out[0] if left_out else "none"
        raise RowError(f"it must have an input that can be written down, got {said}")
    return Row(
        task_id=task_id,
        text=(prompt if described is None else described).strip(),
        function=function,
        reference=reference,
        imports=() if described is not None else tuple(preamble(prompt, function)),
        groups=groups,
        tolerance=_tolerance(values.get("atol")),
        family=family,
        contract=_contract(values.get("contract"), defined),
        left_out=tuple(left_out),
    )


def problem_of(row: Row, answered: Answered) -> tuple[Problem, tuple[str, ...]]:
    """Build the problem of a row; with it, the inputs that are left out, each with the reason.

    Raises:
        RowError: no input is left.
    """
    if answered.fault:
        raise RowError(answered.fault)
    values = iter(answered.values)
    left_out = list(row.left_out)
    groups = []
    for group in row.groups:
        found = [(call, next(values)) for call in group]
        left_out += [f"{call.place}: {value.fault}" for call, value in found if value.fault]
        sound = [(call, value) for call, value in found if not value.fault]
        calls = [rules.Expected(call.arguments, v.source, v.floats) for call, v in sound]
        asserts = rules.asserts_of(row.function, calls, tolerance=row.tolerance, family=row.family)
        groups.append([(call.place, text) for (call, _), text in zip(sound, asserts, strict=True)])
    groups = _bounded(groups, left_out)
    if not any(groups):
        raise RowError(f"it must have an input with an expected value, got {left_out[0]}")
    visible, hidden = ([text for _, text in group] for group in groups)
    problem = Problem(
        task_id=row.task_id,
        text=row.text,
        asserts=(*visible, *hidden),
        imports=row.imports,
        reference=row.reference,
        callables=(row.function,),
        n_hidden=len(hidden),
        reference_cpu_s=answered.cpu_s if answered.cpu_s > _SLOW_S else 0.0,
    )
    return problem, tuple(left_out)


def _bounded(
    groups: list[list[tuple[str, str]]], left_out: list[str]
) -> list[list[tuple[str, str]]]:
    """The asserts with their places, without the longest where all together are too long."""
    kept, n_chars = set(), 0
    for place, text in sorted(chain(*groups), key=lambda item: len(item[1])):
        n_chars += len(text)
        if n_chars <= _MAX_CHARS:
            kept.add(place)
        else:
            left_out.append(f"{place}: the asserts of a problem may have {_MAX_CHARS} characters")
    return [[item for item in group if item[0] in kept] for group in groups]


def how_to_get(name: str) -> str | None:
    """Return where a file of evalplus comes from, if a name means one."""
    plain = re.sub(r"[^\w+]|_", "", name.rpartition("/")[2].lower())
    for file, release, version in _RELEASES:
        family = file.lower().removesuffix("plus")
        if plain.startswith((f"{family}plus", f"{family}+")):
            return (
                f"download {file}.jsonl.gz from release {version} of {release} on GitHub, "
                "and give its path as --dataset"
            )
    return None


_RELEASES = (
    ("MbppPlus", "evalplus/mbppplus_release", "v0.2.0"),
    ("HumanEvalPlus", "evalplus/humanevalplus_release", "v0.1.10"),
)
"""Files, and where evalplus 0.3.1 takes them from."""


def _parsed(what: str, source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RowError(f"{what} must be Python, got {str(error)[:100]}") from error


def _docstring(prompt: str) -> str | None:
    """The text of a prompt that is nothing but one, as MBPP+ has it; None of another."""
    with contextlib.suppress(RowError):
        match _parsed("prompt", prompt.strip()).body:
            case [ast.Expr(value=ast.Constant(value=str(text)))]:
                return text
    return None


def _definition(tree: ast.Module, function: str) -> ast.FunctionDef:
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function]
    if not found:
        raise RowError(
            f"canonical_solution must define entry_point as a function, got no {function!r:.60}"
        )
    return found[-1]


def _family(task_id: TaskId) -> tuple[str, int | None]:
    """Which benchmark's rules hold, and the number of a task of MBPP."""
    name, _, number = str(task_id).partition("/")
    if name == "Mbpp" and number.isdecimal():
        return "mbpp", int(number)
    return ("humaneval", None) if name == "HumanEval" else ("", None)


def _calls(column: str, inputs: object, task: int | None, left_out: list[str]) -> tuple[_Call, ...]:
    if inputs is None or inputs == {}:  # one row of MBPP+ has an object without a member
        return ()
    if not isinstance(inputs, list) or len(inputs) > MAX_TESTS:
        raise RowError(
            f"{column} must be a list of at most {MAX_TESTS} inputs, got {type(inputs).__name__}"
        )
    calls = []
    for number, given in enumerate(inputs, start=1):
        place = f"{column} {number}"
        if not isinstance(given, list):
            raise RowError(f"{place} must be a list of arguments, got {type(given).__name__}")
        try:
            arguments = tuple(arguments_of(task, given))
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise RowError(
                f"{place} must be arguments of task {task}, got {str(error)[:100]}"
            ) from error
        try:
            calls.append(_Call(place, arguments, literal(arguments)))
        except NoLiteral as error:
            left_out.append(f"{place}: an input must be {error}")
    return tuple(calls)


def _tolerance(value: object) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise RowError(f"atol must be a number from 0, got {value!r:.60}")
    return float(value)


def _contract(value: object, function: ast.FunctionDef) -> str:
    """Source of a function that takes the same arguments and holds the contract alone."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowError(f"contract must be text, got {type(value).__name__}")
    body = _parsed("contract", textwrap.dedent(lf(value).expandtabs())).body
    if not body:
        return ""
    checks = ast.FunctionDef(
        name="_contract", args=function.args, body=body, decorator_list=[], returns=None
    )
    return ast.unparse(ast.fix_missing_locations(ast.Module([checks], [])))
