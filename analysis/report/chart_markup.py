"""A chart as part of a page: title as text, marks that carry their values, the values as a table.

The SVG stands in the page itself, so that a pointer finds its marks. It is written anew from a list of
elements and attributes that draw: no script, style, link or handler can come through.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from xml.etree import ElementTree

from analysis.report.figures import Drawn
from analysis.report.markup import count, folded, table, text
from analysis.words import value, word

_MOST_VALUES = 100
"""Rows of the table below a figure."""
_ELEMENTS = frozenset("svg g path rect line text tspan defs clipPath linearGradient stop".split())
_ATTRIBUTES = frozenset(
    "viewBox transform d x y x1 y1 x2 y2 dx dy width height fill fill-opacity stroke stroke-width stroke-opacity "
    "stroke-dasharray stroke-miterlimit stroke-linecap stroke-linejoin opacity display text-anchor font-family "
    "font-size font-weight font-style clip-path id gradientUnits offset stop-color stop-opacity".split()
)
_MARKS = frozenset(("point", "bar", "rect mark"))
"""Marks that `charts.style.TIP` describes, as Vega calls them."""


def figure(drawn: Drawn) -> str:
    """A chart as markup. StoreError: the charts extra is not installed."""
    from analysis.charts import parts

    chart = parts(drawn.chart)
    label = text(". ".join([chart.title, *chart.subtitle]))
    about = "".join(f'<p class="muted">{text(line)}</p>' for line in chart.subtitle)
    return (
        f'<figure id="figure-{text(drawn.name)}"><figcaption><h3>{text(chart.title)}</h3>{about}</figcaption>'
        f'<div class="scroll" tabindex="0" role="img" aria-label="{label}">'
        f"{inline(chart.svg, lead=drawn.name)}</div>{_values(drawn)}</figure>"
    )


def inline(svg: str, *, lead: str) -> str:
    """An SVG of the renderer as an element of a page; `lead` parts its ids from those of other SVGs."""
    root = ElementTree.fromstring(svg)  # noqa: S314 - the renderer's own
    for ground in [child for child in root if child.tag.endswith("}rect")]:
        root.remove(
            ground
        )  # the page's own shows through, with a shadow where there is more to scroll to
    return "".join(_element(root, lead))


def _element(node: ElementTree.Element, lead: str) -> Iterator[str]:
    """One element with its children, if it draws."""
    tag = node.tag.rpartition("}")[2]
    if tag not in _ELEMENTS or node.get("display") == "none":
        return
    yield f"<{tag}"
    if tag == "svg":
        yield ' aria-hidden="true"'
    for name, found in node.attrib.items():
        if name in _ATTRIBUTES and not (tag == "svg" and name in ("width", "height")):
            yield f' {name}="{html.escape(_own(name, found, lead))}"'
    if node.get("aria-roledescription") in _MARKS and (tip := node.get("aria-label")):
        yield f' data-tip="{text(tip)}"'
    yield ">"
    yield html.escape(node.text or "", quote=False)
    for child in node:
        yield from _element(child, lead)
        yield html.escape(child.tail or "", quote=False)
    yield f"</{tag}>"


def _own(name: str, found: str, lead: str) -> str:
    """An attribute with ids of its own page, and with two decimals: no screen shows more."""
    if name == "id":
        return f"{lead}-{found}"
    if "url(" in found:
        inner = re.fullmatch(r"url\(#([\w-]+)\)", found)
        return f"url(#{lead}-{inner[1]})" if inner else "none"
    return re.sub(r"(\.\d\d)\d+", r"\1", found) if name in ("d", "transform") else found


def _values(drawn: Drawn) -> str:
    """What the chart shows as a table: for keyboards, screen readers, paper."""
    columns = [name for name in drawn.rows.columns if not _is_about_drawing(name)]
    records = drawn.rows.records()[:_MOST_VALUES]
    cells = [[value(row, name) for name in columns] for row in records]
    # A column in which nothing differs stands in the subtitle or says nothing.
    kept = [i for i in range(len(columns)) if i == 0 or len({row[i] for row in cells}) > 1]
    numbers = [
        place
        for place, i in enumerate(kept)
        if any(isinstance(row[columns[i]], int | float) for row in records)
    ]
    shown = table(
        [word(columns[i]) for i in kept],
        [[row[i] for i in kept] for row in cells],
        label=f"Values of figure {drawn.name}",
        numbers=numbers,
    )
    n_rows = len(drawn.rows.rows)
    if n_rows > _MOST_VALUES:
        shown += (
            f'<p class="muted">The first {_MOST_VALUES} of {n_rows:,} rows. '
            f"<code>sdpo-bench plots --figure {text(drawn.figure.name)} --form json</code> writes all.</p>"
        )
    return folded(f"Values ({count(n_rows, 'row')})", shown)


def _is_about_drawing(column: str) -> bool:
    """Whether a column only places a row in its chart, or names it a second time."""
    return column in ("rank", "series", "eval_id", "low", "high")
