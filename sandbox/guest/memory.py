"""What forks share: all that is there before them, which nobody counts references to.

A reference count stands in its object, and using the object writes it; so a child would copy nearly every page
that it only reads. CPython has counts that are never written, those of `None` and the like (PEP 683): here all
objects get one. That is two fifths of a child's page faults.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import types
from typing import Any

_IS_KNOWN = (3, 12) <= sys.version_info < (3, 14) and not sys.abiflags
"""Whether the count of `None` is all that makes an object immortal; later versions keep flags beside it."""
_OF_CODE = (
    "co_consts",
    "co_names",
    "co_linetable",
    "co_exceptiontable",
    "co_filename",
    "co_name",
    "co_qualname",
)
"""What a code object holds; the collector does not know it."""


def freeze() -> None:
    """Leave all objects that there are out of reference counting and garbage collection; before the forks."""
    gc.collect()
    if _IS_KNOWN:
        _make_immortal(gc.get_objects())
    # The children's collector does not touch these, either.
    gc.freeze()
    # A fork copies the table of pages: what is free goes back.
    ctypes.CDLL(None).malloc_trim(0)


def _make_immortal(objects: list[Any]) -> None:
    """Give these objects and all that they hold a count that is never written."""
    count = sys.getrefcount(None)
    while objects:
        found = objects.pop()
        if sys.getrefcount(found) != count and type(found) is not types.FrameType:
            ctypes.c_ssize_t.from_address(id(found)).value = count
            objects += gc.get_referents(found)
            if type(found) is types.CodeType:
                objects += [getattr(found, name) for name in _OF_CODE]
