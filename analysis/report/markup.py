"""Text and tables as markup of a page: what comes from a run is escaped, bounded and shown, never interpreted."""

from __future__ import annotations

import html
from collections.abc import Collection, Sequence

from analysis.render import visible

_LONGEST_CELL = 500
_MOST_IN_VIEW = 10
"""Rows of a table that may all be seen at once, on a phone too."""


def text(value: object, longest: int = _LONGEST_CELL) -> str:
    """Text on one line: escaped, bounded, control and direction characters as escapes."""
    return html.escape(visible(str(value), longest), quote=True)


def lines(value: object, longest: int) -> str:
    """The same with its line breaks, for `pre`; what was cut off is said."""
    whole = str(value)
    shown = "\n".join(text(line, longest) for line in whole[:longest].split("\n"))
    return shown if len(whole) <= longest else f"{shown}\n… cut at {longest:,} characters"


def count(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def table(
    names: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    label: str,
    numbers: Collection[int] = (),
) -> str:
    """A table in a region that scrolls where it is wide or tall; the first cell of a row names it.

    A screen reader calls the region by its `label`; `numbers` are the columns that hold numbers.
    """

    def line(cells: Sequence[object], *, head: bool) -> str:
        marked = []
        for i, cell in enumerate(cells):
            of_number = ' class="number"' if i in numbers else ""
            if head:
                marked.append(f'<th scope="col"{of_number}>{text(cell)}</th>')
            elif i == 0:
                marked.append(f'<th scope="row">{text(cell)}</th>')
            else:
                marked.append(f"<td{of_number}>{text(cell)}</td>")
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(line(row, head=False) for row in rows)
    tall = f'<p class="muted hint">{len(rows)} rows in all</p>'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">'
        f"<table><thead>{line(names, head=True)}</thead><tbody>{body}</tbody></table></div>"
        f"{tall if len(rows) > _MOST_IN_VIEW else ''}"
    )


def folded(summary: str, content: str) -> str:
    """Content that opens on demand."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"
