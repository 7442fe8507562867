"""Turns a grade into a reward; every weight lives here."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from evaluator.answers.definition import parse
from evaluator.grading.grade import Grade


@dataclass(frozen=True)
class Reward:
    """Parts and total of one completion's reward. Success is `Grade.passed`, never a total."""

    correctness: float
    """Fraction of the problem's asserts that passed, 0..1; an untrusted assert never counts."""
    format_score: float
    """How well-formed the answer is, 0..1."""
    total: float
    """correctness + format_weight * format_score."""


def reward(grade: Grade, *, format_weight: float = 0.3) -> Reward:
    """Return the reward of a graded completion.

    Raises:
        ValueError: the weight is negative.
    """
    if format_weight < 0.0:
        raise ValueError(
            f"format_weight must be 0 or more, got {format_weight!r}; use 0 to leave format out"
        )
    correctness = grade.n_passed / grade.n_asserts if grade.n_asserts else 0.0
    form = format_score(grade)
    return Reward(correctness, form, correctness + format_weight * form)


def format_score(grade: Grade) -> float:
    """Return the mean of three facts about the answer: one fenced block, parses, defines.

    The block must be closed and the only one; the program must be Python, and its top level must
    define every name that the asserts call.
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
