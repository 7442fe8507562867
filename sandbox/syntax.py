"""Parses Python text in one thread at a time."""

from __future__ import annotations

import ast
import threading

_ALONE = threading.RLock()


def parse(source: str) -> ast.Module:
    """Return what `ast.parse` returns.

    Python 3.11 counts the depth of all its threads' trees in one place. A thread that takes over in the middle of a
    tree, as a finalizer may let it, ends in `SystemError: AST constructor recursion depth mismatch` (cpython 106905).

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as `ast.parse`.
    """
    with _ALONE:
        return ast.parse(source)
