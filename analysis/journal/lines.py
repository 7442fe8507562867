"""The form of a journal file: one checksummed JSON line a row; encodes lines and scans files.

A line is `{"table":"rollouts","crc32":"0a1b2c3d","row":{...}}`. The checksum covers the table's
name and the bytes of the row, so that a flipped byte is found even where the line is still JSON.
The fixed order of the three members lets a reader take a line apart without parsing the row.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from analysis.journal.durable import open_file

_HEAD = b'{"table":"'
_CRC = b'","crc32":"'
_ROW = b'","row":'
_TAIL = b"}\n"
HEADER_TABLE = "segment"
"""Table name of the first line of each file: schema version, run, attempt and process."""


class Line(NamedTuple):
    """One intact line; a tuple, since an ingest makes millions of them."""

    table: str
    row: bytes
    """The row as JSON."""
    offset: int
    """Where the line starts in the file, in bytes."""
    end: int
    """Where the next line starts."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One complete line that is not what its writer wrote."""

    path: Path
    offset: int
    """Where the line starts in the file, in bytes."""
    end: int
    """Where the next line starts."""
    reason: str

    def __str__(self) -> str:
        """File, offset and reason in one line."""
        return f"{self.path}: damaged line at byte {self.offset}: {self.reason}"


def encode(table: str, row: bytes) -> bytes:
    """Return the line of one row; `row` is JSON without line breaks."""
    name = table.encode()
    return b"".join((_HEAD, name, _CRC, b"%08x" % _checksum(name, row), _ROW, row, _TAIL))


def scan(path: Path, start: int = 0) -> Iterator[Line | Damage]:
    """Yield the complete lines of a file from byte `start` on.

    A last line without its line break is a write that was cut short: it was never acknowledged
    and is left out, so a later scan from its start sees it whole or not at all.

    Raises:
        OSError: the file could not be read, or is none.
    """
    with open_file(path) as file:
        file.seek(start)
        offset = start
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            end = offset + len(raw)
            yield _decode(path, raw, offset, end)
            offset = end


def _decode(path: Path, raw: bytes, offset: int, end: int) -> Line | Damage:
    name_end = raw.find(b'"', len(_HEAD))
    crc_start = name_end + len(_CRC)
    row_start = crc_start + 8 + len(_ROW)
    if (
        not raw.startswith(_HEAD)
        or raw[name_end:crc_start] != _CRC
        or raw[crc_start + 8 : row_start] != _ROW
        or not raw.endswith(_TAIL)
        or not raw[:name_end].isascii()
        or row_start > len(raw) - len(_TAIL)
    ):
        return Damage(path, offset, end, "not a journal line")
    name, row = raw[len(_HEAD) : name_end], raw[row_start : -len(_TAIL)]
    if raw[crc_start : crc_start + 8] != b"%08x" % _checksum(name, row):
        return Damage(path, offset, end, "checksum differs from the line's content")
    return Line(name.decode("ascii"), row, offset, end)


def _checksum(name: bytes, row: bytes) -> int:
    return zlib.crc32(row, zlib.crc32(name))
