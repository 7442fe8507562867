"""The names that asserts expect a candidate to define, where no reference solution says them."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Sequence

from sandbox import syntax
from sandbox.judge.evaluate import bound_names


def called_names(asserts: Sequence[str], imports: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names that the asserts call, in order, but builtins and what is imported or bound on the way.

    A candidate that is to define a builtin's name (MBPP's task 126 asks for `sum`) needs its names given.

    Args:
        asserts: assert statements.
        imports: statements run before the candidate, for example `from math import isclose`.

    Raises:
        SyntaxError: one of the texts is no Python.
    """
    known = set(dir(builtins)) | {name for line in imports for name in _imported(_tree(line))}
    found: dict[str, None] = {}
    for text in asserts:
        tree = _tree(text)
        bound = bound_names(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name = node.func.id
                if name not in known and name not in bound:
                    found[name] = None
    return tuple(found)


def _tree(text: str) -> ast.Module:
    try:
        return syntax.parse(text.strip())
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(f"a statement must be Python that can be parsed, got {error}") from error


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names that import statements bind."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
