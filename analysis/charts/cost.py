"""Figures of what a run costs: time of a step, an execution and a query."""

from __future__ import annotations

import altair as alt

from analysis.charts.style import (
    OUTCOME_COLOURS,
    TIP,
    algorithm,
    canvas,
    finish,
    log_axis,
    percent,
    records,
    seeds,
    span,
    spots,
    tipped,
)
from analysis.render import Result


def step_time(result: Result) -> alt.TopLevelMixin:
    """Draw where the time of a step goes; rows of `queries.step_time`."""
    rows = tipped(result, "phase", "seconds_mean", "n_steps")
    chart = (
        canvas(rows, width=560, height=max(70, 30 * len({row["run_id"] for row in rows})))
        .mark_bar(height=20)
        .encode(
            x=alt.X("seconds_mean:Q", title="mean time of a step (seconds)", stack="zero"),
            y=alt.Y("name:N", title=None, axis=alt.Axis(grid=False, labelLimit=280)),
            color=alt.Color("phase:N", title="phase", scale=alt.Scale(range=OUTCOME_COLOURS)),
            **TIP,
        )
    )
    return finish(
        chart, "Where a step's time goes", f"n = {span(rows, 'n_steps')} steps; {seeds(rows)}"
    )


def sandbox_latency(result: Result) -> alt.TopLevelMixin:
    """Draw the distribution of execution times; rows of `queries.sandbox_latency`."""
    rows = tipped(result, "fraction", "wall_ms", "n")
    shared = {
        "x": alt.X(
            "wall_ms:Q",
            title="wall-clock time of an execution (milliseconds)",
            **log_axis([row["wall_ms"] for row in rows], ",.3~f"),
        ),
        "y": percent("fraction", "executions at most that long (%)"),
        "color": algorithm(rows),
    }
    lines = canvas(rows).mark_line(interpolate="step-after", strokeWidth=2)
    # Spots at each tenth of a hundred: all of them would be most of a page's bytes.
    tenths = [row for row in rows if round(100 * row["fraction"]) % 10 == 0]
    chart = alt.layer(
        lines.encode(**shared, detail="run_id:N"), spots(canvas(tenths).encode(**shared))
    )
    n = {row["run_id"]: row["n"] for row in rows}
    return finish(chart, "Sandbox latency", f"n = {sum(n.values()):,} executions; {seeds(rows)}")


def bench_growth(result: Result) -> alt.TopLevelMixin:
    """Draw what people wait for as the results grow; rows of `bench.measure`."""
    shown = {
        "ingest_s": ("ingest of everything", 1.0),
        "step_ingest_s": ("ingest of one more step", 1.0),
        "slowest_figure_ms": ("slowest figure's query", 1e-3),
        "slowest_headline_ms": ("slowest headline view", 1e-3),
        "search_ms": ("search in every completion", 1e-3),
    }
    rows = [
        {"n_rollouts": row["n_rollouts"], "work": name, "seconds": row[column] * scale}
        for row in records(result)
        for column, (name, scale) in shown.items()
    ]
    chart = (
        canvas(rows)
        .mark_line(point=True, strokeWidth=2.2)
        .encode(
            x=alt.X(
                "n_rollouts:Q",
                title="rollouts in the results (count)",
                **log_axis([row["n_rollouts"] for row in rows], ","),
            ),
            y=alt.Y(
                "seconds:Q",
                title="wall-clock time (seconds)",
                **log_axis([row["seconds"] for row in rows], "~g"),
            ),
            color=alt.Color("work:N", title=None, scale=alt.Scale(range=OUTCOME_COLOURS)),
        )
    )
    return finish(chart, "How waiting grows with the results", "one measurement a point")
