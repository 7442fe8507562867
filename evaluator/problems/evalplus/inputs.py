"""The arguments that a row's JSON stands for: JSON has no tuples, sets and complex numbers, and some tasks of MBPP do.

Which tasks these are, and what they take, is evalplus' (Source: evalplus/data/mbpp.py, `mbpp_deserialize_inputs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Arguments = Sequence[Any]


def arguments_of(task: int | None, given: Arguments) -> list[Any]:
    """Return the arguments of one call of a task of MBPP; JSON of any other problem (None) is taken as it is.

    Raises:
        TypeError, ValueError, IndexError, AttributeError: they are not of the form that the task takes.
    """
    form = _FORMS.get(task) if task is not None else None
    return list(given) if form is None else form(given)


def _each(convert: Callable[[Any], Any]) -> Callable[[Arguments], list[Any]]:
    """All arguments alike."""
    return lambda given: [convert(part) for part in given]


def _by_place(*converts: Callable[[Any], Any] | None) -> Callable[[Arguments], list[Any]]:
    """The first arguments, each in its own way; None leaves one, and those after them, as it is."""

    def convert(given: Arguments) -> list[Any]:
        first = zip(converts, given, strict=False)
        changed = [part if to is None else to(part) for to, part in first]
        return [*changed, *given[len(converts) :]]

    return convert


def _tuples(rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows]


def _nested(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Tuples in place of all lists."""
    return tuple(map(_nested, value)) if isinstance(value, list) else value


def _tuple_of_rows(value: Sequence[Any]) -> tuple[Any, ...]:
    """A tuple whose lists are tuples, one level deep."""
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)


def _sets(value: Sequence[Any]) -> list[Any]:
    """A list of sets; an empty one is the dict that the task's own tests call an empty set."""
    return [set(item) if isinstance(item, list) and item else {} for item in value]


def _dict_of_tuples(value: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {key: tuple(item) for key, item in value.items()}


_TASKS: tuple[tuple[Callable[[Arguments], list[Any]], str], ...] = (
    (
        _each(tuple),
        "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809",
    ),
    (_each(_tuples), "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780"),
    (_each(lambda value: tuple(_tuples(value))), "259 401 445"),
    (_each(_nested), "580 615 791"),
    (_each(_tuple_of_rows), "278"),
    (_by_place(_tuples), "75 413 444 753"),
    (_by_place(tuple), "250 307 405 446 617 720 763 808"),
    (_by_place(None, tuple), "106 750"),
    (_by_place(_sets), "115"),
    (_by_place(float, complex), "124"),
    (_by_place(complex), "252"),
    (_by_place(_dict_of_tuples), "722"),
)
_FORMS = {int(task): form for form, tasks in _TASKS for task in tasks.split()}
"""Number of a task -> how its arguments are made."""
