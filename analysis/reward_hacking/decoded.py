"""Reads values that a program writes in disguise: encoded, reversed, shifted letter by letter."""

from __future__ import annotations

import base64
import binascii
import codecs
from collections.abc import Callable
from typing import Any

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


def decoded(name: str, values: list[Any]) -> Any:  # noqa: ANN401 - any literal
    """Return what a decoding function gives. LookupError: it is none; ValueError, TypeError: it takes others."""
    if name == "decode" and len(values) == 2 and values[1] in _CODECS:  # codecs.decode
        return codecs.decode(values[0], values[1])
    if len(values) != 1:
        raise LookupError(name)
    return _DECODERS[name](values[0])


def rewritten(name: str, text: Any, values: list[Any]) -> Any:  # noqa: ANN401 - any literal
    """Return a text or bytes as a method of it writes them; raises as `decoded` does."""
    codec = name in ("decode", "encode")
    if name not in _METHODS or not isinstance(text, str | bytes) or len(values) > codec:
        raise LookupError(name)
    if codec and values and values[0] not in _CODECS - {"hex", "base64"}:
        raise LookupError(name)
    return getattr(text, name)(*values)
