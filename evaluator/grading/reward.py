"""Turns a grade into a reward: the shipped function, and what is asked of anybody's own.

A reward function takes a grade and the completion, and returns a number, or parts with their names and weights:

    def reward(grade, completion):
        return [Part("correctness", correctness(grade)), Part("brevity", -len(completion) / 1000, weight=0.1)]

`correctness_and_format` is the shipped one and the example.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from evaluator.answers.definition import parse
from evaluator.grading.grade import Grade
from evaluator.problems.user_code import UserCodeError


class Part(NamedTuple):
    """One named part of a reward."""

    name: str
    value: float
    weight: float = 1.0


Rewarded: TypeAlias = float | Mapping[str, float] | Sequence[Part]
"""What a reward function may return: a number, numbers by name, or parts with weights."""

RewardFunction: TypeAlias = Callable[[Grade, str], Rewarded]


@dataclass(frozen=True)
class Reward:
    """One completion's reward. Success is `Grade.passed`, never a total."""

    correctness: float
    """Fraction of the problem's tests that passed, 0..1; an untrusted one never counts."""
    format_score: float
    """How well-formed the answer is, 0..1."""
    total: float
    """Sum of the parts, each times its weight."""
    parts: tuple[Part, ...] = ()
    """What a function of a person's own gave; empty for the shipped one."""


def correctness_and_format(
    grade: Grade, completion: str, *, format_weight: float = 0.3
) -> tuple[Part, ...]:
    """Return the parts of the shipped reward; `completion` is not looked at, the grade knows its program."""
    return (
        Part("correctness", correctness(grade)),
        Part("format_score", format_score(grade), format_weight),
    )


def reward(
    grade: Grade, *, format_weight: float = 0.3, function: RewardFunction | None = None
) -> Reward:
    """Return the reward of a graded completion, by a person's own function where there is one.

    Raises:
        ValueError: the weight is negative.
        UserCodeError: the function raised, or returned what is no reward.
    """
    if format_weight < 0.0:
        raise ValueError(
            f"format_weight must be 0 or more, got {format_weight!r}; use 0 to leave format out"
        )
    if function is None:
        parts = correctness_and_format(grade, grade.completion, format_weight=format_weight)
    else:
        parts = _parts(function(grade, grade.completion), function)
    total = sum(part.weight * part.value for part in parts)
    found = () if function is None else parts
    return Reward(correctness(grade), format_score(grade), total, found)


def correctness(grade: Grade) -> float:
    """Return the fraction of the problem's tests that passed, 0..1."""
    return grade.n_passed / grade.n_asserts if grade.n_asserts else 0.0


def _parts(found: object, function: RewardFunction) -> tuple[Part, ...]:
    """What a function returned, as parts of finite numbers.

    Raises:
        UserCodeError: it is none of the three forms.
    """
    name = getattr(function, "name", getattr(function, "__name__", "the reward"))
    if isinstance(found, Mapping):
        parts = [Part(str(key), value) for key, value in found.items()]
    elif isinstance(found, Sequence) and not isinstance(found, str):
        parts = [
            Part(*item) if isinstance(item, tuple) and len(item) in (2, 3) else Part("", math.nan)
            for item in found
        ]
    else:
        parts = [Part("reward", found)]  # type: ignore[arg-type]  # checked below
    checked = []
    for part in parts:
        value, weight = _number(part.value), _number(part.weight)
        if value is None or weight is None or not part.name or not isinstance(part.name, str):
            raise UserCodeError(
                f"{name} must return a finite number, numbers by name or a list of Part(name, value, weight), got "
                f"{found!r:.120}; return one of these"
            )
        checked.append(Part(part.name[:60], value, weight))
    names = [part.name for part in checked]
    if not names:
        raise UserCodeError(
            f"{name} must return at least one part, got none; return 0.0 for nothing"
        )
    if len(set(names)) < len(names):
        raise UserCodeError(
            f"{name} must return parts with names of their own, got {names!r:.120}; rename one"
        )
    return tuple(checked)


def _number(value: object) -> float | None:
    """A finite number, also numpy's or torch's; None where it is none."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return number if math.isfinite(number) and not isinstance(value, str) else None


def format_score(grade: Grade) -> float:
    """Return the mean of three facts about the answer: one fenced block, parses, defines.

    The block must be closed and the only one; the program must be Python, and its top level must
    define every name that the asserts call; a whole program need define none.
    """
    extraction = grade.extraction
    one_block = extraction.n_blocks == 1 and extraction.closed and extraction.code is not None
    tree = parse(extraction.code) if extraction.code is not None else None
    defines = tree is not None and set(grade.problem.callables) <= _defined(tree)
    return (one_block + (tree is not None) + defines) / 3


def _defined(tree: ast.Module) -> set[str]:
    """Names that functions, classes and assignments of a module's top level bind."""
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Assign(targets=targets):
                names.update(target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Import() | ast.ImportFrom():
                names.update(alias.asname or alias.name for alias in node.names)
    return names
