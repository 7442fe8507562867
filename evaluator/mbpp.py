"""Problems in MBPP's form: where they come from, how they are checked, what is kept of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One programming problem with its asserts and reference solution; line ends are `\\n`."""

    task_id: int
    text: str
    asserts: tuple[str, ...]
    setup_code: str
    """Statements run after the candidate and before the asserts."""
    imports: tuple[str, ...]
    reference: str
    callables: tuple[str, ...]
    """Names that the reference defines and the asserts call; the first is the tested function."""
    challenge_asserts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProblemSet:
    """Some problems, in order of task id, and the identity of their source."""

    name: str
    """e.g. `mbpp/sanitized/test`, `embedded/train`."""
    sha256: str
    """Of the source file's content."""
    problems: tuple[Problem, ...]


def load_problems(name: str, *, mbpp_dir: Path | None = None, limit: int | None = None) -> ProblemSet:
    """Load `full/<split>`, `sanitized/<split>` or `embedded/<split>`; split is train, test, validation, prompt or all.

    Raises:
        DatasetError: no source, altered content, unknown name, or nothing selected.
    """
    raise NotImplementedError
