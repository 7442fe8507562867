"""The mutants that may live, and why: read from the docs, where a person reads them too."""

from __future__ import annotations

import re

from scripts.mutation.areas import ROOT

PAGE = ROOT / "docs" / "mutation.md"

_ROW = re.compile(r"^\| `(?P<key>[0-9a-f]{8})` \|.*\| (?P<reason>[^|]+) \|$", re.MULTILINE)


def reasons(text: str | None = None) -> dict[str, str]:
    """Key -> reason, from the table of survivors."""
    if text is None:
        text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return {row["key"]: row["reason"].strip() for row in _ROW.finditer(text)}
