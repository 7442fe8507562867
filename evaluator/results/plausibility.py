"""Warns when a result probably shows a fault of the harness or the model's set-up, and not the model's skill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from analysis.task_ids import TaskId

MIN_FAILURES = 8
"""Fewer failures than this show nothing: three of four can be one class by chance."""

_CAUSES = {
    "NameError": "the prompt may not name the tested function, or the answer calls something else",
    "SyntaxError": "the extraction may keep text that is not code, or answers may be cut short",
    "no_code": "answers may not be in code blocks; read one and compare with the prompt form",
    "truncated": "the length limit ends answers; raise --max-new-tokens",
}
"""Failure classes that a broken harness produces in bulk, and the likely cause of each."""


@dataclass(frozen=True)
class Suspicion:
    """One failure class makes up over half of the failures."""

    failure_class: str
    n: int
    """Failures of that class."""
    n_failures: int
    task_ids: tuple[TaskId, ...]
    """A few problems to look at."""

    @property
    def text(self) -> str:
        """The finding in one line."""
        shown = ", ".join(map(str, self.task_ids))
        return (
            f"harness or model suspect: {self.n} of {self.n_failures} failures are "
            f"{self.failure_class} (tasks {shown}, ...); {_CAUSES[self.failure_class]}"
        )


def suspicion(failures: Iterable[tuple[TaskId, str, bool]]) -> Suspicion | None:
    """Return what is suspect about some failures; None where nothing is.

    Of each first completion that did not pass: task id, failure class, whether the length limit ended it.
    """
    classes = [(task_id, _class_of(outcome, truncated)) for task_id, outcome, truncated in failures]
    if len(classes) < MIN_FAILURES:
        return None
    counts = Counter(name for _, name in classes if name in _CAUSES)
    if not counts:
        return None
    name, n = counts.most_common(1)[0]
    if 2 * n <= len(classes):
        return None
    examples = tuple(task_id for task_id, found in classes if found == name)[:5]
    return Suspicion(name, n, len(classes), examples)


def _class_of(outcome: str, truncated: bool) -> str:
    """Failure class for this purpose; a cut-off answer is that first of all."""
    if truncated:
        return "truncated"
    return "SyntaxError" if outcome in ("IndentationError", "TabError") else outcome
