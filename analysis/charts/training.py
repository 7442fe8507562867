"""Figures of training: reward, what the teacher says, how completions end, the audit."""

from __future__ import annotations

from typing import Any

import altair as alt

from analysis.charts.style import (
    INK,
    N_OUTCOMES,
    OUTCOME_COLOURS,
    TIP,
    Rows,
    algorithm,
    canvas,
    curves,
    estimates,
    finish,
    percent,
    powers_of_ten,
    records,
    seed,
    seeds,
    span,
    spots,
    step_axis,
    tipped,
)
from analysis.render import Result, visible

_LINE_CHARS, _CHAR_PX, _LINE_PX = 72, 7, 20
"""A line of the heatmap over a completion's text: characters, and the size of one in pixels."""
_OF_A_TOKEN = ("divergence", "student_logprob", "teacher_logprob")
_MOST_LARGE_PANELS = 12
_CODE_FONT = "Liberation Mono, DejaVu Sans Mono, monospace"


def training_reward(result: Result) -> alt.TopLevelMixin:
    """Draw training reward over steps; rows of `queries.reward_curve`."""
    rows = tipped(result, "series", "step", "reward_mean", "n_completions", "n_groups")
    y = alt.Y("reward_mean:Q", title="mean reward (points)", scale=alt.Scale(zero=False))
    sampled = any(row["n_completions"] for row in rows)
    n = (
        f"n = {span(rows, 'n_completions')} completions a point"
        if sampled
        else "as the log gives it"
    )
    return finish(
        curves(rows, y),
        "Reward in training",
        f"{n}; {seeds(rows)}",
        "seeds of equal settings pooled; bands: 95 % interval of the mean, over groups: a group shares its problem",
    )


def sdpo_internals(result: Result) -> alt.TopLevelMixin:
    """Draw what the distillation does, a panel a quantity; rows of `queries.sdpo_internals`."""
    rows = tipped(result, "step", "quantity", "value", "unit")
    panels = []
    for quantity in dict.fromkeys(row["quantity"] for row in rows):
        mine = [row for row in rows if row["quantity"] == quantity]
        base = canvas(mine, height=120).encode(
            x=step_axis("step", rows),
            y=alt.Y("value:Q", title=mine[0]["unit"], scale=alt.Scale(zero=False)),
            color=algorithm(rows),
        )
        lines = base.mark_line(strokeWidth=1.8).encode(detail="run_id:N", strokeDash=seed(rows))
        title = alt.Title(quantity, fontSize=12, subtitle="")
        panels.append(alt.layer(lines, spots(base)).properties(title=title))
    return finish(
        alt.vconcat(*panels, spacing=14),
        "Inside SDPO",
        f"a point: mean over n = {span(rows, 'n')} steps; {seeds(rows)}",
    )


def audit_deltas(result: Result) -> alt.TopLevelMixin:
    """Draw each audit layer's differences beside what it allows; rows of `queries.audits`."""
    rows = records(result)
    # A log axis has no zero: an exact agreement, or a layer that allows nothing else, is drawn a decade below all.
    powers = powers_of_ten([row[name] for row in rows for name in ("delta", "threshold")])
    powers = [powers[0] / 10, *powers]
    rows = [
        {
            **row,
            "drawn": max(row["delta"], powers[0]),
            "allowed": max(row["threshold"], powers[0]),
            "verdict": "passes" if row["delta"] <= row["threshold"] else "deviates",
        }
        for row in rows
    ]
    axis = alt.Axis(
        values=powers,
        labelExpr=f"datum.value < {1.5 * powers[0]} ? '0' : format(datum.value, '.0e')",
        labelOverlap=True,
    )
    rows = tipped(rows, "layer", "step", "delta", "threshold")
    scale = alt.Scale(type="log", domain=[powers[0], powers[-1]], nice=False, padding=8)
    title = "largest absolute difference of a step (unit of the layer)"
    n_layers = len({row["layer"] for row in rows})
    base = canvas(rows, height=max(80, 30 * n_layers)).encode(
        y=alt.Y("layer:N", title=None, axis=alt.Axis(grid=True))
    )
    return finish(
        alt.layer(
            base.mark_tick(thickness=3, size=20, color=INK, opacity=1).encode(
                x=alt.X("allowed:Q", scale=scale, axis=axis, title=title)
            ),
            base.mark_point(filled=True, size=42, opacity=0.6).encode(
                x=alt.X("drawn:Q", scale=scale, axis=axis, title=title),
                color=alt.Color(
                    "verdict:N",
                    title=None,
                    scale=alt.Scale(domain=["passes", "deviates"], range=["#0072b2", "#d55e00"]),
                ),
                **TIP,
            ),
        ),
        "Audit: training code against its independent derivation",
        f"n = {len(rows)} comparisons; {seeds(rows)}",
        "a dot: one step; the bar of a layer: the largest difference that passes",
    )


def failure_classes(result: Result) -> alt.TopLevelMixin:
    """Draw how completions end over steps; rows of `queries.failure_classes`."""
    rows = tipped(_largest_classes(records(result)), "outcome", "steps", "fraction", "n")
    order = _class_order(rows)
    chart = (
        canvas(rows)
        .mark_rect(stroke="white", strokeWidth=0.4)
        .encode(
            x=step_axis("step", rows),
            x2="step_end:Q",
            y=percent("low", "completions (%)").scale(domain=[0, 1]),
            y2="high:Q",
            color=alt.Color(
                "outcome:N",
                title="outcome",
                scale=alt.Scale(domain=order, range=OUTCOME_COLOURS[: len(order)]),
            ),
            **TIP,
        )
    )
    return finish(
        _facet(chart, rows),
        "How completions end in training",
        f"n = {sum(row['n'] for row in rows):,} completions; {seeds(rows)}",
    )


def signal(result: Result) -> alt.TopLevelMixin:
    """Draw the share of groups without a signal for GRPO; rows of `queries.signal`."""
    rows = tipped(result, "series", "step", "flat_fraction", "n_groups")
    return finish(
        curves(rows, percent("flat_fraction", "groups of equal rewards (%)")),
        "Groups that teach GRPO nothing",
        f"n = {span(rows, 'n_groups')} groups a point; {seeds(rows)}",
        "all completions of such a group got one reward; seeds of equal settings pooled; bands: 95 % Wilson interval",
    )


def teacher_kinds(result: Result) -> alt.TopLevelMixin:
    """Draw reward by what the teacher was shown; rows of `queries.teacher_kinds`."""
    rows = tipped(result, "teacher_kind", "reward_mean", "n", "n_groups")
    base = canvas(rows, width=460, height=max(90, 34 * len({r["teacher_kind"] for r in rows})))
    base = base.encode(
        y=alt.Y("teacher_kind:N", title=None, axis=alt.Axis(grid=False)),
        yOffset=alt.YOffset("run_id:N"),
        color=algorithm(rows),
    )
    x = alt.X("reward_mean:Q", title="mean reward (points)", scale=alt.Scale(zero=True))
    return finish(
        estimates(base, x),
        "Reward by what the teacher was shown",
        f"n = {sum(row['n'] for row in rows):,} completions; {seeds(rows)}",
        "bars: 95 % interval of the mean, over groups: a group shares its problem",
    )


def token_divergence(result: Result) -> alt.TopLevelMixin:
    """Draw where teacher and student differ over a completion's text; `queries.token_divergence`."""
    first = records(result)[0]
    cells = tipped(_laid_out(result.records()), "shown", *_OF_A_TOKEN)
    n_lines = 1 + max(cell["line"] for cell in cells)
    width = (_LINE_CHARS + 1) * _CHAR_PX
    base = canvas(cells, width=width, height=_LINE_PX * n_lines)
    chars = alt.Scale(domain=[0, _LINE_CHARS + 1], nice=False)
    x = alt.X("start:Q", axis=None, scale=chars)
    y = alt.Y("line:O", axis=None)
    scale = alt.Scale(range=["#f0f2f5", "#d55e00"], interpolate="rgb")
    marks = base.mark_rect(stroke="white", strokeWidth=0.6).encode(
        x=x,
        x2="end:Q",
        y=y,
        color=alt.Color("divergence:Q", title="divergence (nats)", scale=scale),
        **TIP,
    )
    texts = base.mark_text(align="left", font=_CODE_FONT, fontSize=11.5).encode(
        x=alt.X("text_start:Q", axis=None, scale=chars), y=y, text="shown:N", color=alt.value(INK)
    )
    return finish(
        alt.layer(marks, texts),
        "Where the teacher disagrees, token by token",
        f"{first['name']}, step {first['step']}, task {first['task_id']}: "
        f"n = {len(result.rows)} tokens; {seeds(records(result))}",
        "the completion on which they differ most, of those that were sampled",
    )


def _laid_out(tokens: Rows) -> Rows:
    """Cells of a text in lines of a fixed-width font, one for each part of a token on a line."""
    cells: Rows = []
    line = column = 0
    for token in tokens:
        parts = str(token["token"]).split("\n")
        for i, part in enumerate(parts):
            # A line break is a token's doing too: it is shown as a sign at the end of the line.
            text = visible(part, _LINE_CHARS) + ("⏎" if i < len(parts) - 1 else "")
            if column and column + len(text) > _LINE_CHARS + 1:
                line, column = line + 1, 0
            if text:
                indent = len(text) - len(text.lstrip(" "))
                cells.append(
                    {
                        "line": line,
                        "start": column,
                        "end": column + len(text),
                        "text_start": column + indent,
                        "shown": text.strip(" "),
                        **{name: token[name] for name in _OF_A_TOKEN},
                    }
                )
            column += len(text)
            if i < len(parts) - 1:
                line, column = line + 1, 0
    return cells


def _largest_classes(rows: Rows) -> Rows:
    """Fold rare outcomes into `other`, and stack the shares of each bin, `passed` at the bottom."""
    order = _class_order(rows)
    kept = set(order[: N_OUTCOMES - 1]) if len(order) > N_OUTCOMES else set(order)
    bins: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        outcome = row["outcome"] if row["outcome"] in kept else "other"
        cells = bins.setdefault((row["run_id"], row["step"]), {})
        cell = cells.setdefault(outcome, {**row, "outcome": outcome, "n": 0})
        cell["n"] += row["n"]
    for (_, step), cells in bins.items():
        total, low = sum(cell["n"] for cell in cells.values()), 0.0
        for outcome in [*order, "other"]:
            if outcome in cells and "low" not in cells[outcome]:
                high = low + cells[outcome]["n"] / total
                first, last = int(step + 0.5), int(cells[outcome]["step_end"] - 0.5)
                cells[outcome] |= {
                    "low": low,
                    "high": high,
                    "fraction": high - low,
                    "steps": f"{first} to {last}" if last > first else str(first),
                }
                low = high
    return [cell for cells in bins.values() for cell in cells.values()]


def _class_order(rows: Rows) -> list[str]:
    """Outcomes by frequency: `passed` first, `other` last."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["outcome"]] = counts.get(row["outcome"], 0) + row["n"]
    return sorted(counts, key=lambda name: (name != "passed", name == "other", -counts[name], name))


def _facet(chart: alt.Chart, rows: Rows) -> alt.TopLevelMixin:
    """One panel a run, two in a line, more and smaller ones where there are many; one run needs none."""
    n_runs = len({row["run_id"] for row in rows})
    if n_runs < 2:
        return chart.properties(width=560, height=300)
    n_columns, width, height = (2, 240, 190) if n_runs <= _MOST_LARGE_PANELS else (4, 110, 80)
    header = alt.Header(title=None, labelFontSize=11, labelColor=INK, labelLimit=width)
    return chart.properties(width=width, height=height).facet(
        alt.Facet("name:N", header=header), columns=n_columns
    )
