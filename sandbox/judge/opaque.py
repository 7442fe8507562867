"""Values that did not travel: answers what is known about them and refuses every other question.

Whoever asks one what it cannot answer gets `Unjudged`: no verdict rests on a value that is not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from sandbox.guest.values import WITH_DIGEST, Value, digest


class Unjudged(Exception):
    """The value is not here, or costs too much: its assert has no verdict; the text says why."""


def _refuse(self: Opaque, *_: object) -> NoReturn:
    raise Unjudged(f"a value of type {self.type_name} cannot be used outside the program")


class Opaque:
    """A value that did not travel; compared by identity, it equals nothing, itself included."""

    is_key = False

    def __init__(
        self,
        type_name: str,
        text: str,
        truth: bool | None,
        by_identity: bool = True,
        bases: tuple[type, ...] | None = None,
    ) -> None:
        self.type_name = type_name
        self.text = text
        self.truth = truth
        """None where asking for it raises in the program."""
        self.by_identity = by_identity
        self.bases = bases
        """Built-in types that it is an instance of; None where nothing is known."""

    def is_instance(self, kinds: Value) -> bool:
        """What `isinstance` says of the value itself."""
        if self.bases is None:
            _refuse(self)
        return any(issubclass(base, kinds) for base in self.bases)

    def __eq__(self, other: object) -> bool:
        if self.by_identity:
            return False
        raise Unjudged(
            f"a value of type {self.type_name}, which has its own ==, cannot be compared"
        )

    def __hash__(self) -> int:
        """Elements of a set, and keys, came as different values; of others only the program knows what they equal."""
        if not self.is_key:
            _refuse(self)
        return object.__hash__(self)

    def __bool__(self) -> bool:
        if self.truth is None:
            raise Unjudged(f"whether a value of type {self.type_name} is true raises")
        return self.truth

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what the library asks of any object
            raise AttributeError(name)
        _refuse(self)

    def __repr__(self) -> str:
        return self.text


_REFUSED = """
    len iter next contains getitem reversed str format int float complex index round floor ceil trunc abs neg
    pos invert lt le gt ge add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod divmod rdivmod
    pow rpow lshift rlshift rshift rrshift and rand or ror xor rxor matmul rmatmul call
"""
for _name in _REFUSED.split():
    setattr(Opaque, f"__{_name}__", _refuse)


class Iterated(Opaque):
    """An iterable's items, shipped because the assert iterates over them; equals nothing."""

    def __init__(
        self, type_name: str, text: str, items: list[Value], whole: bool, own_in: bool
    ) -> None:
        super().__init__(type_name, text, True)
        self.items = items
        self.own_in = own_in
        """Whether its class has an `in` of its own."""
        self.whole = whole
        """Whether the iterable ended after these."""

    def __iter__(self) -> Iterator[Value]:
        yield from self.items
        if not self.whole:
            raise Unjudged(f"only {len(self.items)} values of the {self.type_name} were looked at")

    def __len__(self) -> int:
        # Not Unjudged: Python asks every iterable for a hint, and takes this for an answer.
        raise TypeError(f"object of type '{self.type_name}' has no len()")

    def __index__(self) -> int:
        # Nor this: bytes() asks for it before it iterates.
        raise TypeError(f"'{self.type_name}' object cannot be interpreted as an integer")

    def __contains__(self, item: Value) -> bool:
        if self.own_in:
            _refuse(self)
        if self.type_name in ("set", "frozenset"):
            return item in set(self)
        return any(item is own or item == own for own in self)


class Large(Opaque):
    """A value that is too large to travel: it knows its length, and by its digest what it equals."""

    def __init__(
        self,
        type_name: str,
        base: str,
        length: int | None,
        digest: str | None,
        bases: tuple[type, ...] | None = None,
    ) -> None:
        size = "" if length is None else f" of length {length}"
        super().__init__(type_name, f"<{type_name}{size}, too large to ship>", True, bases=bases)
        self.base = _ALIKE.get(base, base)
        """Its kind, where equality is that of its kind; empty where only its length is known."""
        self.length = length
        self.digest = digest

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError(f"object of type '{self.type_name}' has no len()")
        return self.length

    def __eq__(self, other: object) -> bool:
        if not self.base or (isinstance(other, Large) and not other.base):
            raise Unjudged(f"a {self.type_name} is too large to compare")
        if isinstance(other, Large):
            theirs, length, same = other.base, other.length, other.digest
        else:
            kind: Any = next((t for t in WITH_DIGEST if isinstance(other, t)), None)
            if kind is None:
                return False
            theirs = _ALIKE.get(kind.__name__, kind.__name__)
            length = None if kind is int else len(other)  # type: ignore[arg-type]
            same = digest(other) if (theirs, length) == (self.base, self.length) else None
        if (theirs, length) != (self.base, self.length):
            return False
        if self.digest is None or same is None:
            raise Unjudged(f"a {self.type_name} is too large to compare")
        return self.digest == same

    __hash__ = Opaque.__hash__


_ALIKE = {"frozenset": "set", "bytearray": "bytes"}


def let_be_keys(parts: list[Value]) -> list[Value]:
    """Return values of which a set or dict is made, with those among them that did not travel made hashable."""
    pending: list[Value] = [parts]
    while pending:
        part = pending.pop()
        if isinstance(part, Opaque):
            part.is_key = True
        elif isinstance(part, list | tuple | frozenset):
            pending.extend(part)
    return parts


def named(base: type[Opaque], name: str) -> type[Opaque]:
    """The class under the name of the program's, so that an operator's complaint names that."""
    return type(name, (base,), {}) if name.isidentifier() else base
