"""What all figures share: colours, axes, how rows become data, titles and the common look."""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

import altair as alt

from analysis.render import Result, visible
from analysis.words import said

Rows = list[dict[str, Any]]

_COLOURS = {
    "base": "#6b7280",
    "grpo": "#0072b2",
    "sdpo": "#d55e00",
    "hybrid": "#009e73",
    "audit": "#cc79a7",
    "routed": "#56b4e9",
    "rlsd": "#e69f00",
    "anchored": "#5d3a9b",
    "sft": "#000000",
}
"""From the Okabe-Ito palette."""
OUTCOME_COLOURS = ("#009e73", "#e69f00", "#0072b2", "#cc79a7", "#d55e00", "#56b4e9", "#9aa5b1")
N_OUTCOMES = len(OUTCOME_COLOURS)
INK, _MUTED, _GRID = "#1f2933", "#52606d", "#e4e7eb"
_PADDING = {"left": 26, "right": 20, "top": 14, "bottom": 14}
"""More than looks need: an SVG is laid out here and read with another machine's wider font."""
_LONGEST_TEXT = 200
SOLID = alt.value([1, 0])
TIP = {"tooltip": "tip:N", "description": "tip:N"}
"""The text of `tipped` on a mark: for a pointer, and as the mark's label in an SVG."""
_MOST_DASHES = 6
"""More seeds than this cannot be told apart by their dashes."""
_MOST_SEEDS_NAMED = 8
_MOST_TICKS = 12
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"


def records(result: Result) -> Rows:
    """Rows with their texts on one line, bounded, without control characters.

    A NUL byte in a label makes the renderer abort the whole process.
    """
    return [
        {
            name: visible(value, _LONGEST_TEXT) if isinstance(value, str) else value
            for name, value in record.items()
        }
        for record in result.records()
    ]


def tipped(rows: Rows | Result, *fields: str) -> Rows:
    """Rows with what a pointer on their mark shows: who, then the fields, each with its name."""
    rows = records(rows) if isinstance(rows, Result) else rows
    return [{**row, "tip": said(row, fields)} for row in rows]


def spots(base: alt.Chart) -> alt.Chart:
    """Marks that nobody sees and a pointer finds: a line has one shape for all its values."""
    return base.mark_point(filled=True, size=80, opacity=0).encode(**TIP)


def canvas(rows: Rows, *, width: int = 560, height: int = 300) -> alt.Chart:
    """Start a chart over rows."""
    return alt.Chart(alt.Data(values=rows), width=width, height=height)


def step_axis(field: str, rows: Rows) -> alt.X:
    """Axis of optimizer steps, with ticks at whole ones: at those of the rows where these are few."""
    return alt.X(
        f"{field}:Q",
        title="optimizer step",
        axis=alt.Axis(
            grid=False,
            values=_whole_ticks([row["step"] for row in rows]),
            format="d",
            labelOverlap=True,
            labelSeparation=6,
        ),
        scale=alt.Scale(nice=False, padding=8),
    )


def _whole_ticks(steps: list[float]) -> list[int]:
    """Steps to mark: the given ones, or about ten round ones between the first and the last."""
    marked = sorted({int(step) for step in steps if step == int(step)})
    if len(marked) == len(set(steps)) <= _MOST_TICKS:
        return marked
    low, high = math.floor(min(steps)), math.ceil(max(steps))
    power = 10 ** max(0, math.floor(math.log10(max(high - low, 1) / _MOST_TICKS)))
    gap = next(
        power * by for by in (1, 2, 5, 10, 20, 50) if (high - low) / (power * by) <= _MOST_TICKS
    )
    return list(range(-(-low // gap) * gap, high + 1, gap))


def log_axis(values: list[float], form: str) -> dict[str, Any]:
    """Settings of a log axis over some values, with its ticks at powers of ten."""
    axis = alt.Axis(values=powers_of_ten(values), format=form)
    return {"scale": alt.Scale(type="log"), "axis": axis}


def powers_of_ten(values: list[float]) -> list[float]:
    """Powers of ten that enclose the positive ones of some values: the ticks of a log axis."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def percent(field: str, title: str, *, zero: bool = True) -> alt.Y:
    """Axis of a fraction, shown in percent."""
    return alt.Y(f"{field}:Q", title=title, axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=zero))


def ends(of: alt.X | alt.Y) -> dict[str, Any]:
    """Both ends of the interval of an estimate, on the estimate's axis."""
    low = of.copy(deep=False)
    low.shorthand = "interval_low:Q"
    name = "x" if isinstance(of, alt.X) else "y"
    return {name: low, f"{name}2": "interval_high:Q"}


def estimates(base: alt.Chart, x: alt.X, *, width: float = 2, size: int = 60) -> alt.LayerChart:
    """Estimates as points on lines that are their intervals."""
    points = base.mark_point(filled=True, size=size, opacity=1).encode(x=x, **TIP)
    return base.mark_rule(strokeWidth=width).encode(**ends(x)) + points


def curves(rows: Rows, y: alt.Y) -> alt.LayerChart:
    """A line over the steps for each arm, in the band of its interval."""
    base = canvas(rows).encode(x=step_axis("step", rows), color=algorithm(rows), detail="series:N")
    lines = base.mark_line(strokeWidth=2.2).encode(y=y, strokeDash=series(rows))
    return base.mark_area(opacity=0.15).encode(**ends(y)) + lines + spots(base.encode(y=y))


def algorithm(rows: Rows, *, legend: bool = True) -> alt.Color:
    """Colour by algorithm, the same in every figure."""
    present = {str(row["algorithm"]) for row in rows}
    domain = [name for name in _COLOURS if name in present] + sorted(present - set(_COLOURS))
    colours = [_COLOURS.get(name, "#7b8794") for name in domain]
    return alt.Color(
        "algorithm:N",
        title="algorithm",
        scale=alt.Scale(domain=domain, range=colours),
        legend=alt.Legend(symbolStrokeWidth=3) if legend else None,
    )


def seed(rows: Rows) -> alt.StrokeDash | alt.StrokeDashValue:
    """Dash by seed where there are some, else none."""
    if not 2 <= len({row["seed"] for row in rows}) <= _MOST_DASHES:
        return SOLID
    return alt.StrokeDash("seed:N", title="seed")


def series(rows: Rows) -> alt.StrokeDash | alt.StrokeDashValue:
    """Dash by arm where an algorithm has several, else none."""
    algorithms = {row["series"]: row["algorithm"] for row in rows}
    if len(algorithms) == len(set(algorithms.values())):
        return SOLID
    # Beside the colours' legend the names would take the width of the figure.
    legend = alt.Legend(orient="bottom", columns=2, labelLimit=270, symbolStrokeWidth=2)
    return alt.StrokeDash("series:N", title="runs", legend=legend)


def span(rows: Rows, field: str) -> str:
    """One number, or the least and the largest."""
    values = sorted({int(row[field]) for row in rows})
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def seeds(rows: Rows) -> str:
    """Say which seeds the rows come from."""
    recorded = {str(row["seed"]) for row in rows if row["seed"] is not None}
    # Where seeds were pooled, a row has several, parted by commas.
    seeds = {seed for text in recorded for seed in text.split(", ")}
    if len(seeds) > _MOST_SEEDS_NAMED:
        return f"{len(seeds)} seeds, {min(seeds, key=_as_number)} to {max(seeds, key=_as_number)}"
    names = ", ".join(sorted(seeds, key=_as_number))
    if not names:
        return "no seed recorded"
    return f"seed {names}" if "," not in names else f"seeds {names}"


def _as_number(seed: str) -> tuple[int, str]:
    """The order of whole numbers written as text."""
    return len(seed), seed


class Parts(NamedTuple):
    """A chart taken apart for a page that has its title as text."""

    title: str
    subtitle: list[str]
    svg: str


def parts(chart: alt.TopLevelMixin) -> Parts:
    """Take a finished chart apart; the SVG has no title."""
    bare: Any = chart.copy(deep=False)
    title, bare.title = bare.title, alt.Undefined
    out = io.StringIO()
    bare.save(out, format="svg")
    return Parts(str(title.text), [str(line) for line in title.subtitle], out.getvalue())


def finish(chart: Any, title: str, *subtitle: str) -> alt.TopLevelMixin:  # noqa: ANN401
    """Add title, subtitle and the common look."""
    done: alt.TopLevelMixin = (
        chart.properties(
            title=alt.Title(title, subtitle=list(subtitle)), padding=_PADDING, background="white"
        )
        .configure(font=_FONT)
        .configure_title(
            anchor="start",
            fontSize=17,
            fontWeight="bold",
            color=INK,
            subtitleColor=_MUTED,
            subtitleFontSize=12,
            subtitlePadding=5,
            offset=14,
        )
        .configure_axis(
            labelColor=_MUTED,
            titleColor=INK,
            titleFontWeight="normal",
            titleFontSize=12,
            labelFontSize=11,
            labelFlush=False,
            titlePadding=9,
            gridColor=_GRID,
            domainColor="#9aa5b1",
            tickColor="#9aa5b1",
        )
        .configure_legend(
            orient="top",  # beside the plot it would take a phone's width from it
            titleOrient="left",
            titlePadding=14,
            columns=4,  # rows of entries, since a browser may set them wider than they were measured
            columnPadding=24,
            gradientLength=120,
            offset=6,
            padding=8,  # keeps two legends apart where a browser's font is wider
            labelColor=INK,
            titleColor=_MUTED,
            titleFontWeight="normal",
            labelFontSize=12,
            symbolOpacity=1,
        )
        .configure_view(stroke=None)
    )
    return done
