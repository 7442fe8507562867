"""Whether options are of the type that they are declared with: YAML values keep the type that they are written in."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

_PLAIN = (int, float, bool, str)


def wrong_type(part: Any) -> str | None:  # noqa: ANN401 - any dataclass of options
    """What is wrong with the first option of another type, in one line; None if nothing."""
    given = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return _wrong(type(part), given)


def wrong_in_file(part: type, content: Mapping[str, Any]) -> str | None:
    """As `wrong_type`, of what a file holds of a class of options; texts are for the parser to read."""
    return _wrong(part, {name: v for name, v in content.items() if not isinstance(v, str)})


def _wrong(part: type, given: Mapping[str, Any]) -> str | None:
    kinds_of = _kinds_of(part)
    for field in dataclasses.fields(part):
        kinds, value = kinds_of[field.name], given.get(field.name, field.default)
        if field.name == "scale_rewards" and isinstance(value, bool):  # which TRL documents
            continue
        if kinds and value != field.default and not _is_of(value, kinds):
            advice = "see `sdpo-bench train --options`"
            if _holds_bool(value) and {str, list[str]} & kinds:
                advice = "YAML reads no, off, yes and on as true and false: put the word in quotes"
            return f"{field.name} must be {_words(kinds)}, got {value!r}; {advice}"
    return None


@functools.cache
def _kinds_of(part: type) -> dict[str, set[Any]]:
    return {name: _kinds(hint) for name, hint in typing.get_type_hints(part).items()}


def _is_of(value: object, kinds: set[Any]) -> bool:
    if isinstance(value, str):  # a choice of transformers' is a text, and TRL unpacks a list of one
        return bool({str, list[str]} & kinds)
    if isinstance(value, list):
        items = {typing.get_args(kind)[0] for kind in kinds if typing.get_origin(kind) is list}
        return bool(items) and all(_is_of(item, items) for item in value)
    if dataclasses.is_dataclass(value):  # what transformers makes of a mapping
        return dict in kinds
    return type(value) in kinds or (type(value) is int and float in kinds)


def _kinds(hint: Any) -> set[Any]:  # noqa: ANN401
    """The types that an option admits; empty where it admits others, which are not checked here."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    given = typing.get_args(hint) if is_union else (hint,)
    kinds = {_kind(one) for one in given}
    known = {*_PLAIN, dict, type(None), *(list[kind] for kind in _PLAIN)}  # type: ignore[valid-type]
    return kinds if kinds <= known else set()


def _kind(one: Any) -> Any:  # noqa: ANN401
    if typing.get_origin(one) is dict:
        return dict
    return str if isinstance(one, type) and issubclass(one, Enum) else one


def _words(kinds: set[Any]) -> str:
    """As a person reads them; to leave an option out is always one of them."""
    names = [kind.__name__ for kind in (*_PLAIN, dict) if kind in kinds]
    names += [f"a list of {kind.__name__}" for kind in _PLAIN if list[kind] in kinds]  # type: ignore[valid-type]
    return " or ".join(names)


def _holds_bool(value: object) -> bool:
    return any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value]))
