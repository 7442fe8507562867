"""What can be stored: rows of plain values, in a form that UTF-8 JSON and SQL hold without loss."""

from __future__ import annotations

from typing import Any, ClassVar, dataclass_transform

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from analysis.task_ids import task_id

_INT64 = range(-(2**63), 2**63)


def storable(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold goes in and comes out
    r"""Return the value in a form that UTF-8 JSON and a BIGINT column hold without loss or failure.

    A model can write half a surrogate pair, which no UTF-8 file holds: it becomes its escape,
    `\ud800`.

    Raises:
        ValueError: an integer needs more than 64 bits.
    """
    match value:
        case str():
            if value.isascii():
                return value
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {storable(key): storable(item) for key, item in value.items()}
        case list() | tuple():
            return [storable(item) for item in value]
        case int() if value not in _INT64:
            raise ValueError(f"an integer must fit 64 bits, got {value!r}; bound it")
    return value


def invalid(error: ValidationError) -> str:
    """Return where the first value of a row that cannot be stored stands, and what is wrong with it."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole file'}: {first['msg']}"


def _refusal(error: ValueError) -> PydanticCustomError:
    """The same as an error that pydantic copies: one that it keeps holds the frames of all callers to the end.

    With DuckDB's connection among them, 40 lines of leaks would follow the message.
    """
    return PydanticCustomError("value_error", "{reason}", {"reason": str(error)})


def column(description: str, **options: Any) -> Any:  # noqa: ANN401 - as pydantic's Field
    """Declare a field: what its column holds, with unit and range; `options` are those of pydantic's Field."""
    return Field(description=description, **options)


@dataclass_transform(kw_only_default=True, field_specifiers=(column,))
class Row(BaseModel):
    """Something that is stored: frozen, strict about names, safe to write as UTF-8 JSON."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=True,
        ser_json_inf_nan="strings",  # JSON has no NaN; a NULL would hide that a loss was not finite
        protected_namespaces=(),
    )

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:  # noqa: ANN401 - see storable
        try:
            return storable(value)
        except ValueError as error:
            raise _refusal(error) from None

    @field_validator("task_id", mode="before", check_fields=False)
    @classmethod
    def _task_id(cls, value: Any) -> Any:  # noqa: ANN401 - see storable
        try:
            return None if value is None else task_id(value)
        except ValueError as error:
            raise _refusal(error) from None


class Record(Row):
    """One journal line of one table."""

    table: ClassVar[str]
    key: ClassVar[tuple[str, ...]]
    """Natural key within a run: a later row with the same key replaces the earlier one."""
