"""One planted bug, and the fixed choice among all that could be planted."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple


@dataclass(frozen=True)
class Mutant:
    """A piece of one file that is replaced by another; what it is called does not depend on where it stands."""

    area: str
    path: str
    """Of the file, from the root of the tree."""
    start: int
    """Offsets in the file's text, in characters."""
    end: int
    after: str
    """What stands there instead."""
    operator: str
    scope: str
    """Function or view around it; empty at a module's top level."""
    line: int
    """From 1."""
    text: str
    """The whole line as it is, without margin."""
    nth: int = 0
    """Number among equal edits of equal lines of the scope."""

    @cached_property
    def key(self) -> str:
        """Eight hex digits; the same wherever the file or the line moves to."""
        parts = (self.scope, self.operator, self.text, self.after, str(self.nth))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]

    def applied(self, source: str) -> str:
        """The file's text with the bug in it."""
        return source[: self.start] + self.after + source[self.end :]

    def diff(self, source: str) -> str:
        """The lines that differ, as `-` and `+` lines."""
        lines = difflib.unified_diff(
            source.splitlines(), self.applied(source).splitlines(), n=0, lineterm=""
        )
        return "\n".join(line for line in list(lines)[2:] if not line.startswith("@@"))


def numbered(mutants: Iterable[Mutant]) -> list[Mutant]:
    """The mutants with equal ones told apart by their order."""
    seen: dict[str, int] = {}
    found = []
    for mutant in mutants:
        n = seen.get(mutant.key, 0)
        seen[mutant.key] = n + 1
        found.append(replace(mutant, nth=n))
    return found


def chosen(
    mutants: Iterable[Mutant], n: int, is_code: Callable[[Mutant], bool] = lambda _: True
) -> list[Mutant]:
    """At most `n` that are code, at most one a line: those of the smallest keys, which is as good as by lot.

    The choice depends on nothing but the text of the code: a change leaves the choice elsewhere as it was.
    """
    by_line: dict[tuple[str, int], Mutant] = {}
    for mutant in sorted(mutants, key=lambda mutant: mutant.key):
        if len(by_line) == n:
            break
        place = mutant.path, mutant.line
        if place not in by_line and is_code(mutant):
            by_line[place] = mutant
    return sorted(by_line.values(), key=lambda mutant: (mutant.path, mutant.start))


class Bug(NamedTuple):
    """One of the kind that a maintainer makes, which some test must see; planted beside the chosen mutants.

    `before` stands exactly once in the packages, whatever the file is called.
    """

    area: str
    what: str
    """What is then wrong."""
    before: str
    after: str
