"""Values that a program or an assert spells out, in one form for all ways of writing them.

`55`, `50 + 5`, `int("55")` and `[55][0]` are one value; so are a list and a tuple of equal members. Nothing is
executed: what is folded here is bounded, and every other expression is no literal.
"""

from __future__ import annotations

import ast
import base64
import binascii
import codecs
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Value: TypeAlias = Any
"""What a program spells: any value of Python's literals."""
_MOST_MEMBERS = 2000
_LONGEST_TEXT = 20_000
_DEEPEST = 12
_MOST_COMPREHENDED = 64
_READERS = {"eval", "literal_eval", "loads"}
"""Functions that turn a text into the value it spells."""
_KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (int, float, str, repr, bool, list, tuple, set, frozenset, dict)
}

_METHODS = set("decode encode upper lower title capitalize swapcase strip lstrip rstrip".split())
"""Methods of a text that write it in another way, and make it no longer."""
_DECODERS: dict[str, Callable[[Any], Any]] = {
    "b64decode": base64.b64decode,
    "urlsafe_b64decode": base64.urlsafe_b64decode,
    "b32decode": base64.b32decode,
    "b16decode": base64.b16decode,
    "unhexlify": binascii.unhexlify,
    "fromhex": bytes.fromhex,
}
"""Functions of one argument, by the name that they have in whatever module or class."""
_CODECS = {"rot13", "rot_13", "hex", "base64", "utf-8", "utf8", "ascii", "latin-1"}


class NotLiteral(Exception):
    """The expression is no value that is spelled out."""


def fold(node: ast.AST, names: Mapping[str, Any] | None = None, depth: int = 0) -> Value:
    """Return the value of an expression over itself and named values. NotLiteral: it needs more, or is too large."""
    if depth > _DEEPEST:
        raise NotLiteral
    try:
        return _bounded(_fold(node, names or {}, depth + 1))
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise NotLiteral from None


def folded(node: ast.AST, names: Mapping[str, Any] | None = None) -> tuple[Value, ...]:
    """Return the value of an expression as the one member of a tuple; an empty one where it is no literal."""
    try:
        return (fold(node, names),)
    except NotLiteral:
        return ()


def canonical(value: Value) -> str:
    """Return a text that two values share where a comparison would call them equal, or nearly."""
    match value:
        case bool() | None | str() | bytes():
            return repr(value)
        case int():
            return str(value)
        case float():
            return (
                str(int(value)) if math.isfinite(value) and value == int(value) else f"{value:.9g}"
            )
        case list() | tuple():
            return f"({','.join(map(canonical, value))})"
        case set() | frozenset():
            return f"{{{','.join(sorted(map(canonical, value)))}}}"
        case dict():
            pairs = sorted(f"{canonical(key)}:{canonical(item)}" for key, item in value.items())
            return f"{{{','.join(pairs)}}}"
    return repr(value)


def weight(value: Value) -> float:
    """How much it says that two programs spell this value: nothing of True, much of a long list."""
    match value:
        case None | bool():
            return 0.0
        case int():
            return 0.5 if abs(value) < 10 else 1.0 + 0.5 * min(6, len(str(abs(value))) - 2)
        case float():
            return weight(int(value)) if math.isfinite(value) and value == int(value) else 2.0
        case str() | bytes():
            return min(5.0, len(value) / 3)
        case list() | tuple() | set() | frozenset():
            return min(8.0, 0.5 + sum(weight(item) for item in list(value)[:20]))
        case dict():
            return min(8.0, 0.5 + sum(weight(k) + weight(v) for k, v in list(value.items())[:20]))
        case complex():
            return 2.0
    return 0.0


def _fold(node: ast.AST, names: Mapping[str, Any], depth: int) -> Value:
    match node:
        case ast.Constant(value=value) if value is not Ellipsis:
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.List(elts=items):
            return [fold(item, names, depth) for item in items]
        case ast.Tuple(elts=items):
            return tuple(fold(item, names, depth) for item in items)
        case ast.Set(elts=items):
            return frozenset(_hashable(fold(item, names, depth)) for item in items)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {
                _hashable(fold(key, names, depth)): _fold_result(value, names, depth)
                for key, value in pairs
                if key is not None
            }
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -fold(operand, names, depth)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return +fold(operand, names, depth)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not fold(operand, names, depth)
        case ast.BinOp(left=left, op=op, right=right):
            return _operate(op, fold(left, names, depth), fold(right, names, depth))
        case ast.Subscript(value=whole, slice=ast.Slice() as part):
            ends = [
                None if e is None else fold(e, names, depth)
                for e in (part.lower, part.upper, part.step)
            ]
            return fold(whole, names, depth)[slice(*ends)]
        case ast.ListComp() | ast.GeneratorExp():
            return _each(node, names, depth)
        case ast.Subscript(value=whole, slice=index):
            return fold(whole, names, depth)[fold(index, names, depth)]
        case ast.JoinedStr(values=parts):
            texts = [p.value if isinstance(p, ast.FormattedValue) else p for p in parts]
            return "".join(str(fold(text, names, depth)) for text in texts)
        case ast.Call():
            return _call(node, names, depth)
    raise NotLiteral


def _fold_result(node: ast.AST, names: Mapping[str, Any], depth: int) -> Value:
    """Fold a table's entry: a function without arguments stands for what it returns."""
    if isinstance(node, ast.Lambda) and not node.args.args and node.args.vararg is None:
        node = node.body
    return fold(node, names, depth)


def _each(
    node: ast.ListComp | ast.GeneratorExp, names: Mapping[str, Any], depth: int
) -> list[Value]:
    """Fold a comprehension over values that are spelled: `chr(c - 1) for c in (105, 102)`."""
    match node.generators:
        case [ast.comprehension(target=ast.Name(id=name), iter=whole, ifs=[])]:
            members = list(fold(whole, names, depth))
            # one within another would multiply
            if not any(map(_repeats, ast.walk(node.elt))) and len(members) <= _MOST_COMPREHENDED:
                return [fold(node.elt, {**names, name: member}, depth) for member in members]
    raise NotLiteral


def _repeats(node: ast.AST) -> bool:
    return isinstance(node, ast.comprehension) or (isinstance(node, ast.Name) and node.id == "map")


def _call(node: ast.Call, names: Mapping[str, Any], depth: int) -> Value:
    """Fold the few calls that only write a value in another way."""
    match node:
        case ast.Call(func=ast.Name(id="map"), args=[ast.Name() as function, whole]):
            calls = [ast.Call(function, [ast.Constant(v)], []) for v in fold(whole, names, depth)]
            return [fold(call, names, depth) for call in calls[:_MOST_COMPREHENDED]]
    values = [fold(argument, names, depth) for argument in node.args]
    match node.func:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(), attr=name) if (
            name in _READERS and len(values) == 1 and isinstance(values[0], str | bytes)
        ):
            text = values[0]
            return _spelled(text if isinstance(text, str) else text.decode(), depth)
        case ast.Name(id="dict") if len(values) <= 1 and all(k.arg for k in node.keywords):
            named = {str(k.arg): fold(k.value, names, depth) for k in node.keywords}
            return _convert("dict", *values) | named
        case ast.Name(id="chr" | "ord" as name) if len(values) == 1:
            return chr(values[0]) if name == "chr" else ord(values[0])
        case ast.Name(id="reversed") if len(values) == 1:
            return list(reversed(values[0]))
        case ast.Name(id="bytes" | "bytearray") if values and isinstance(values[0], list | tuple):
            return bytes(values[0])
        case ast.Name(id=name) if name in _KINDS and len(values) <= 1 and not node.keywords:
            return _convert(name, *values)
        case ast.Attribute(value=whole, attr="split") if not node.keywords:
            return fold(whole, names, depth).split(*values)
        case ast.Attribute(value=whole, attr="join") if len(values) == 1:
            return fold(whole, names, depth).join(values[0])
        case ast.Attribute(value=ast.Name(id=module), attr=name) if module not in names:
            return _decoded(name, values)
        case ast.Name(id=name):
            return _decoded(name, values)
        case ast.Attribute(value=whole, attr=name) if not node.keywords:
            return _rewritten(name, fold(whole, names, depth), values)
    raise NotLiteral


def _decoded(name: str, values: list[Any]) -> Any:  # noqa: ANN401 - any literal
    """Return what a decoding function gives. LookupError: it is none; ValueError, TypeError: it takes others."""
    if name == "decode" and len(values) == 2 and values[1] in _CODECS:  # codecs.decode
        return codecs.decode(values[0], values[1])
    if len(values) != 1:
        raise LookupError(name)
    return _DECODERS[name](values[0])


def _rewritten(name: str, text: Any, values: list[Any]) -> Any:  # noqa: ANN401 - any literal
    """Return a text or bytes as a method of it writes them; raises as `_decoded` does."""
    codec = name in ("decode", "encode")
    if name not in _METHODS or not isinstance(text, str | bytes) or len(values) > codec:
        raise LookupError(name)
    if codec and values and values[0] not in _CODECS - {"hex", "base64"}:
        raise LookupError(name)
    return getattr(text, name)(*values)


def _convert(name: str, *values: Value) -> Value:
    """Apply one of the builtin types."""
    if name == "int" and values and isinstance(values[0], str) and len(values[0]) > 100:
        raise NotLiteral
    if name in ("set", "frozenset"):
        return frozenset(map(_hashable, values[0])) if values else frozenset()
    return _KINDS[name](*values)


def _spelled(text: str, depth: int) -> Value:
    """The value that a text spells, as Python or JSON."""
    try:
        return fold(ast.parse(text.strip(), mode="eval").body, None, depth)
    except (SyntaxError, NotLiteral, MemoryError):
        return json.loads(text)


def spelled(text: str) -> Value:
    """Return the value that a text spells. NotLiteral: it spells none."""
    if len(text) > _LONGEST_TEXT:
        raise NotLiteral
    try:
        return _bounded(_spelled(text, _DEEPEST - 4))
    except (ValueError, RecursionError):
        raise NotLiteral from None


def _operate(op: ast.operator, left: Value, right: Value) -> Value:
    """Fold one operation whose result stays small."""
    if any(isinstance(side, int) and abs(side) > 10**18 for side in (left, right)):
        raise NotLiteral
    match op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            sizes = [len(side) for side in (left, right) if hasattr(side, "__len__")]
            times = [side for side in (left, right) if isinstance(side, int)]
            if sizes and times and sizes[0] * times[0] > _MOST_MEMBERS:  # before it is made
                raise NotLiteral
            return left * right
        case ast.Div():
            return left / right
        case ast.FloorDiv():
            return left // right
        case ast.Mod() if not isinstance(left, str | bytes):
            return left % right
        case ast.Pow() if isinstance(right, int) and 0 <= right <= 64 and abs(left) < 10**6:
            return left**right
    raise NotLiteral


def _bounded(value: Value) -> Value:
    """Refuse a value that takes long to compare: members count, at every depth, and so do characters."""
    if _room(value, _LONGEST_TEXT) < 0:
        raise NotLiteral
    return value


def _room(value: Value, room: int) -> int:
    """What is left of some room when a value was put into it; stops where nothing is."""
    match value:
        case str() | bytes():
            return room - len(value)
        case int() | bool():
            return room - value.bit_length() // 4 - 1
        case list() | tuple() | set() | frozenset():
            members: Any = value
        case dict():
            members = (*value.keys(), *value.values())
        case _:
            return room - 1
    room -= len(members)
    for member in members:
        if room < 0:
            break
        room = _room(member, room)
    return room


def _hashable(value: Value) -> Value:
    """A value as a key: a list as a tuple."""
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    if isinstance(value, set):
        return frozenset(value)
    return tuple(sorted(value.items())) if isinstance(value, dict) else value
