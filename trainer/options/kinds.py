"""Whether options are of the type that they are declared with: YAML values keep the type that they are written in."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

_PLAIN = (int, float, bool, str)


def wrong_type(part: Any) -> str | None:  # noqa: ANN401 - any dataclass of options
    """What is wrong with the first option of another type, in one line; None if nothing."""
    hints = typing.get_type_hints(type(part))
    for field in dataclasses.fields(part):
        kinds, value = _kinds(hints[field.name]), getattr(part, field.name)
        if kinds and value != field.default and not _is_of(value, kinds):
            names = " or ".join(kind.__name__ for kind in _PLAIN if kind in kinds)
            return f"{field.name} must be {names}, got {value!r}; see `sdpo-bench train --options`"
    return None


def _is_of(value: object, kinds: set[type]) -> bool:
    if isinstance(value, str):  # a choice of transformers' is a text, too
        return str in kinds
    return type(value) in kinds or (type(value) is int and float in kinds)


def _kinds(hint: Any) -> set[type]:  # noqa: ANN401
    """The plain types that an option admits; empty where it admits others, which are not checked here."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = set(typing.get_args(hint)) if is_union else {hint}
    return kinds if kinds <= {*_PLAIN, type(None)} else set()
