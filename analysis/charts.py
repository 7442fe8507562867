"""One function a figure: rows in, altair chart out; reads nothing. The one importer of altair.

Estimates are drawn with their intervals, axes carry units, n and seeds stand in the subtitle.
Colours stand for the algorithm and are told apart by colour-blind readers.
"""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from analysis.render import Result, visible

Rows = list[dict[str, Any]]

_COLOURS = {
    "base": "#6b7280",
    "grpo": "#0072b2",
    "sdpo": "#d55e00",
    "hybrid": "#009e73",
    "audit": "#cc79a7",
}
"""From the Okabe-Ito palette."""
_OUTCOME_COLOURS = ("#009e73", "#e69f00", "#0072b2", "#cc79a7", "#d55e00", "#56b4e9", "#9aa5b1")
_N_OUTCOMES = len(_OUTCOME_COLOURS)
_INK, _MUTED, _GRID = "#1f2933", "#52606d", "#e4e7eb"
_PADDING = {"left": 26, "right": 20, "top": 14, "bottom": 14}
"""More than looks need: an SVG is laid out here and read with another machine's wider font."""
_LONGEST_TEXT = 200
_SOLID = alt.value([1, 0])
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"


def pass_at_1_over_steps(result: Result) -> alt.TopLevelMixin:
    """Draw pass@1 of each run's evaluations over steps; rows of `queries.eval_curve`."""
    rows = _dodged(_records(result))
    base = _chart(rows).encode(
        x=_step_axis("position", sorted({row["step"] for row in rows})),
        color=_algorithm(rows),
        detail="run_id:N",
        strokeDash=_seed(rows),
    )
    y = _percent("pass_at_1", "pass@1 (% of problems)", zero=False)
    return _finish(
        alt.layer(
            base.mark_rule(opacity=0.55, strokeWidth=1.5).encode(
                y=_percent("interval_low", "pass@1 (% of problems)", zero=False),
                y2="interval_high:Q",
                strokeDash=_SOLID,
            ),
            base.mark_line(strokeWidth=2.2).encode(y=y),
            base.mark_point(filled=True, size=60, opacity=1).encode(
                y=y, strokeDash=_SOLID, tooltip=_tips(rows, "k", "n", "pass_at_1")
            ),
        ),
        "pass@1 over training",
        f"n = {_range(rows, 'n')} problems an evaluation; {_seeds(rows)}",
        "bars: 95 % Wilson interval of each evaluation; runs at one step are drawn side by side",
    )


def training_reward(result: Result) -> alt.TopLevelMixin:
    """Draw training reward over steps; rows of `queries.reward_curve`."""
    rows = _records(result)
    base = _chart(rows).encode(x=_step_axis("step"), color=_algorithm(rows))
    y = alt.Y("reward_mean:Q", title="mean reward (points)", scale=alt.Scale(zero=False))
    return _finish(
        alt.layer(
            base.mark_area(opacity=0.15).encode(
                y=alt.Y("interval_low:Q", title="mean reward (points)"),
                y2="interval_high:Q",
            ),
            base.mark_line(strokeWidth=2.2).encode(
                y=y, tooltip=_tips(rows, "n_completions", "n_groups", "reward_mean")
            ),
        ),
        "Reward in training",
        f"n = {_range(rows, 'n_completions')} completions a point; {_seeds(rows)}",
        "seeds pooled; bands: 95 % interval of the mean over groups, since a group shares its problem",
    )


def sdpo_internals(result: Result) -> alt.TopLevelMixin:
    """Draw what the distillation does, a panel a quantity; rows of `queries.sdpo_internals`."""
    rows = _records(result)
    panels = []
    for quantity in dict.fromkeys(row["quantity"] for row in rows):
        mine = [row for row in rows if row["quantity"] == quantity]
        panels.append(
            _chart(mine, width=640, height=130)
            .mark_line(strokeWidth=1.8)
            .encode(
                x=_step_axis("step"),
                y=alt.Y("value:Q", title=mine[0]["unit"], scale=alt.Scale(zero=False)),
                color=_algorithm(rows),
                detail="run_id:N",
                strokeDash=_seed(rows),
                tooltip=_tips(rows, "value"),
            )
            .properties(title=alt.Title(quantity, fontSize=12, subtitle=""))
        )
    return _finish(
        alt.vconcat(*panels, spacing=14),
        "Inside SDPO",
        f"mean over {_range(rows, 'n')} values a point; {_seeds(rows)}",
    )


def audit_deltas(result: Result) -> alt.TopLevelMixin:
    """Draw each audit layer's difference over steps with its threshold; rows of `queries.audits`."""
    # A log axis has no zero; an exact agreement is drawn at the floor, and the tooltip has it.
    floor = 1e-18
    rows = [{**row, "drawn": max(row["delta"], floor)} for row in _records(result)]
    base = _chart(rows).encode(
        x=_step_axis("step"),
        color=alt.Color("layer:N", title="layer", scale=alt.Scale(range=_OUTCOME_COLOURS)),
    )
    scale = alt.Scale(type="log")
    powers = _powers([row["drawn"] for row in rows] + [row["threshold"] for row in rows])
    y = alt.Y("drawn:Q", title="largest absolute difference (unit of the layer)", scale=scale)
    return _finish(
        alt.layer(
            base.mark_line(strokeWidth=1.2, opacity=0.5).encode(
                y=y.axis(format=".0e", values=powers), detail="run_id:N"
            ),
            base.mark_point(filled=True, size=28).encode(
                y=y, tooltip=["run_id:N", "layer:N", "step:Q", "delta:Q", "threshold:Q"]
            ),
            base.mark_line(strokeDash=[6, 4], strokeWidth=1.5).encode(
                y=alt.Y("threshold:Q", scale=scale), detail="run_id:N"
            ),
        ),
        "Audit: training code against its independent derivation",
        f"n = {len(rows)} comparisons; {_seeds(rows)}",
        "dashed: the largest difference that passes",
    )


def solve_matrix(result: Result) -> alt.TopLevelMixin:
    """Draw which evaluation solves which problem; rows of `queries.solve_matrix` for one run."""
    rows = _records(result)
    n_tasks = len({row["task_id"] for row in rows})
    chart = (
        _chart(rows, width=760, height=max(60, 26 * len({row["eval_id"] for row in rows})))
        .mark_rect()
        .encode(
            x=alt.X(
                "task_id:O",
                title="problem (task id), easiest first",
                sort=alt.EncodingSortField("solved_fraction", op="mean", order="descending"),
                axis=alt.Axis(labels=False, ticks=False, domain=False, grid=False),
            ),
            y=alt.Y("step:O", title="optimizer step", axis=alt.Axis(grid=False)),
            color=alt.Color(
                "solved_fraction:Q",
                title="solved (% of completions)",
                scale=alt.Scale(domain=[0, 1], range=["#f0f2f5", "#009e73"], interpolate="rgb"),
                legend=alt.Legend(format=".0%", gradientLength=90),
            ),
            tooltip=["task_id:O", "step:O", "n_solved:Q", "n_samples:Q"],
        )
    )
    return _finish(
        chart,
        "Which checkpoint solves which problem",
        f"{rows[0]['run_id']}: n = {n_tasks} problems; {_seeds(rows)}",
    )


def flips(result: Result) -> alt.TopLevelMixin:
    """Draw problems gained and lost between two evaluations; rows of `queries.flips`."""
    rows = _records(result)
    bars = (
        _chart(rows, width=520, height=140)
        .mark_bar(height=26, cornerRadius=2)
        .encode(
            x=alt.X("n:Q", title="problems", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("change:N", title=None, sort=None, axis=alt.Axis(grid=False)),
            color=alt.Color(
                "change:N",
                legend=None,
                scale=alt.Scale(
                    domain=["gained", "lost", "solved by both", "solved by neither"],
                    range=["#009e73", "#d55e00", "#b8c4ce", "#e4e7eb"],
                ),
            ),
            tooltip=["change:N", "n:Q", "task_ids:N"],
        )
    )
    labels = bars.mark_text(align="left", dx=5, color=_INK).encode(
        text="n:Q", color=alt.value(_INK)
    )
    total = sum(row["n"] for row in rows)
    return _finish(
        alt.layer(bars, labels),
        f"From {rows[0]['name_a']} to {rows[0]['name_b']}",
        f"n = {total} problems; {_seeds(rows)}; exact McNemar p = {rows[0]['p_value']:.2g}",
    )


def failure_classes(result: Result) -> alt.TopLevelMixin:
    """Draw how completions end over steps; rows of `queries.failure_classes`."""
    rows = _largest_classes(_records(result))
    order = _class_order(rows)
    chart = (
        _chart(rows, width=250, height=190)
        .mark_rect(stroke="white", strokeWidth=0.4)
        .encode(
            x=_step_axis("step"),
            x2="step_end:Q",
            y=_percent("low", "completions (%)").scale(domain=[0, 1]),
            y2="high:Q",
            color=alt.Color(
                "outcome:N",
                title="outcome",
                scale=alt.Scale(domain=order, range=_OUTCOME_COLOURS[: len(order)]),
            ),
            tooltip=["run_id:N", "step:Q", "step_end:Q", "outcome:N", "n:Q"],
        )
    )
    return _finish(
        _facet(chart, rows),
        "How completions end in training",
        f"n = {sum(row['n'] for row in rows):,} completions; {_seeds(rows)}",
    )


def pass_at_k(result: Result) -> alt.TopLevelMixin:
    """Draw pass@k over k; rows of `queries.pass_at_k`."""
    rows = _records(result)
    base = _chart(rows).encode(
        x=alt.X("k:Q", title="k (completions tried)", axis=alt.Axis(tickMinStep=1, grid=False)),
        color=_algorithm(rows),
        detail="series:N",
        strokeDash=_seed(rows),
    )
    y = _percent("pass_at_k", "pass@k (% of problems)", zero=False)
    return _finish(
        alt.layer(
            base.mark_area(opacity=0.12).encode(
                y=_percent("interval_low", "pass@k (% of problems)", zero=False),
                y2="interval_high:Q",
                strokeDash=_SOLID,
            ),
            base.mark_line(strokeWidth=2.2, point=True).encode(
                y=y, tooltip=["series:N", "k:Q", "pass_at_k:Q", "n_problems:Q", "n_samples:Q"]
            ),
        ),
        "pass@k of the last evaluation",
        f"n = {_range(rows, 'n_problems')} problems, {_range(rows, 'n_samples')} completions each; "
        f"{_seeds(rows)}",
        "unbiased estimator; bands: 95 % normal interval over problems",
    )


def comparison(result: Result) -> alt.TopLevelMixin:
    """Draw pass@1 of each policy as a forest plot; rows of `queries.comparison`."""
    rows = _records(result)
    base = _chart(rows, width=560, height=max(80, 30 * len(rows))).encode(
        y=alt.Y("name:N", title=None, sort=None, axis=alt.Axis(grid=False, labelLimit=320)),
        color=_algorithm(rows, legend=False),
    )
    x = alt.X(
        "pass_at_1:Q",
        title="pass@1 (% of problems)",
        axis=alt.Axis(format=".0%"),
        scale=alt.Scale(zero=False),
    )
    label = base.mark_text(align="left", dx=8, dy=-9, fontSize=11).encode(
        x="pass_at_1:Q", text="counts:N"
    )
    return _finish(
        alt.layer(
            base.mark_rule(strokeWidth=2.5).encode(
                x=alt.X("interval_low:Q", title="pass@1 (% of problems)"), x2="interval_high:Q"
            ),
            base.mark_point(filled=True, size=90, opacity=1).encode(x=x, tooltip=["counts:N"]),
            label,
        ),
        "Every policy's last evaluation",
        f"n = {_range(rows, 'n')} problems; {_seeds(rows)}; bars: 95 % Wilson interval",
        "intervals that overlap do not decide a comparison: the paired test on flips does",
    )


def signal(result: Result) -> alt.TopLevelMixin:
    """Draw the share of groups without a signal for GRPO; rows of `queries.signal`."""
    rows = _records(result)
    base = _chart(rows).encode(x=_step_axis("step"), color=_algorithm(rows))
    title = "groups of equal rewards (%)"
    return _finish(
        alt.layer(
            base.mark_area(opacity=0.15).encode(
                y=_percent("interval_low", title),
                y2="interval_high:Q",
            ),
            base.mark_line(strokeWidth=2.2).encode(
                y=_percent("flat_fraction", title), tooltip=_tips(rows, "n_groups", "flat_fraction")
            ),
        ),
        "Groups that teach GRPO nothing",
        f"n = {_range(rows, 'n_groups')} groups a point; {_seeds(rows)}",
        "all completions of such a group got one reward; seeds pooled; bands: 95 % Wilson interval",
    )


def teacher_kinds(result: Result) -> alt.TopLevelMixin:
    """Draw reward by what the teacher was shown; rows of `queries.teacher_kinds`."""
    rows = _records(result)
    base = _chart(rows, width=460, height=max(90, 34 * len({r["teacher_kind"] for r in rows})))
    base = base.encode(
        y=alt.Y("teacher_kind:N", title=None, axis=alt.Axis(grid=False)),
        yOffset=alt.YOffset("run_id:N"),
        color=_algorithm(rows),
    )
    x = alt.X("reward_mean:Q", title="mean reward (points)", scale=alt.Scale(zero=True))
    return _finish(
        alt.layer(
            base.mark_rule(strokeWidth=2).encode(
                x=alt.X("interval_low:Q", title="mean reward (points)"), x2="interval_high:Q"
            ),
            base.mark_point(filled=True, size=60, opacity=1).encode(
                x=x, tooltip=["run_id:N", "teacher_kind:N", "n:Q", "reward_mean:Q"]
            ),
        ),
        "Reward by what the teacher was shown",
        f"n = {sum(row['n'] for row in rows):,} completions; {_seeds(rows)}",
        "bars: 95 % interval of the mean",
    )


def step_time(result: Result) -> alt.TopLevelMixin:
    """Draw where the time of a step goes; rows of `queries.step_time`."""
    rows = _records(result)
    chart = (
        _chart(rows, width=560, height=max(70, 30 * len({row["run_id"] for row in rows})))
        .mark_bar(height=20)
        .encode(
            x=alt.X("seconds_median:Q", title="median time of a step (seconds)", stack="zero"),
            y=alt.Y("run_id:N", title=None, axis=alt.Axis(grid=False, labelLimit=280)),
            color=alt.Color("phase:N", title="phase", scale=alt.Scale(range=_OUTCOME_COLOURS)),
            tooltip=["run_id:N", "phase:N", "seconds_median:Q", "n_steps:Q"],
        )
    )
    return _finish(
        chart, "Where a step's time goes", f"n = {_range(rows, 'n_steps')} steps; {_seeds(rows)}"
    )


def sandbox_latency(result: Result) -> alt.TopLevelMixin:
    """Draw the distribution of execution times; rows of `queries.sandbox_latency`."""
    rows = _records(result)
    chart = (
        _chart(rows)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X(
                "wall_ms:Q",
                title="wall-clock time of an execution (milliseconds)",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(values=_powers([row["wall_ms"] for row in rows]), format=",.3~f"),
            ),
            y=_percent("fraction", "executions at most that long (%)"),
            color=_algorithm(rows),
            detail="run_id:N",
            tooltip=["run_id:N", "wall_ms:Q", "fraction:Q"],
        )
    )
    n = {row["run_id"]: row["n"] for row in rows}
    return _finish(chart, "Sandbox latency", f"n = {sum(n.values()):,} executions; {_seeds(rows)}")


def token_divergence(result: Result) -> alt.TopLevelMixin:
    """Draw where teacher and student differ in one completion; rows of `queries.token_divergence`."""
    rows = _records(result)
    base = _chart(rows, width=760, height=24 * (1 + max(row["row"] for row in rows))).encode(
        x=alt.X("column:O", axis=None), y=alt.Y("row:O", axis=None)
    )
    cells = base.mark_rect(stroke="white").encode(
        color=alt.Color(
            "divergence:Q",
            title="divergence (nats)",
            scale=alt.Scale(range=["#f0f2f5", "#d55e00"], interpolate="rgb"),
        ),
        tooltip=["token:N", "student_logprob:Q", "teacher_logprob:Q", "divergence:Q"],
    )
    first = rows[0]
    return _finish(
        alt.layer(cells, base.mark_text(fontSize=9, font="monospace").encode(text="shown:N")),
        "Where the teacher disagrees, token by token",
        f"{first['run_id']}, step {first['step']}, task {first['task_id']}: n = {len(rows)} tokens; "
        f"{_seeds(rows)}",
    )


def bench_growth(result: Result) -> alt.TopLevelMixin:
    """Draw what people wait for as the results grow; rows of `bench.measure`."""
    shown = {
        "ingest_s": ("ingest of everything", 1.0),
        "step_ingest_s": ("ingest of one more step", 1.0),
        "slowest_figure_ms": ("slowest figure's query", 1e-3),
        "search_ms": ("search in every completion", 1e-3),
    }
    rows = [
        {"n_rollouts": row["n_rollouts"], "work": name, "seconds": row[column] * scale}
        for row in _records(result)
        for column, (name, scale) in shown.items()
    ]
    ticks = _powers([row["seconds"] for row in rows])
    chart = (
        _chart(rows)
        .mark_line(point=True, strokeWidth=2.2)
        .encode(
            x=alt.X(
                "n_rollouts:Q",
                title="rollouts in the results (count)",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(values=_powers([row["n_rollouts"] for row in rows]), format=","),
            ),
            y=alt.Y(
                "seconds:Q",
                title="wall-clock time (seconds)",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(values=ticks, format="~g"),
            ),
            color=alt.Color("work:N", title=None, scale=alt.Scale(range=_OUTCOME_COLOURS)),
        )
    )
    return _finish(chart, "How waiting grows with the results", "one measurement a point")


def _records(result: Result) -> Rows:
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


def _chart(rows: Rows, *, width: int = 640, height: int = 340) -> alt.Chart:
    """Start a chart over rows."""
    return alt.Chart(alt.Data(values=rows), width=width, height=height)


def _step_axis(field: str, values: list[int] | None = None) -> alt.X:
    """Axis of optimizer steps, with ticks at the values where they are few."""
    ticks = {"values": values} if values and len(values) <= 12 else {"tickMinStep": 1}
    return alt.X(
        f"{field}:Q",
        title="optimizer step",
        axis=alt.Axis(grid=False, **ticks),
        scale=alt.Scale(nice=False, padding=8),
    )


def _powers(values: list[float]) -> list[float]:
    """Powers of ten that enclose positive values: the ticks of a log axis."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return [10.0**power for power in range(low, max(high, low + 1) + 1)]


def _percent(field: str, title: str, *, zero: bool = True) -> alt.Y:
    """Axis of a fraction, shown in percent."""
    return alt.Y(f"{field}:Q", title=title, axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=zero))


def _algorithm(rows: Rows, *, legend: bool = True) -> alt.Color:
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


def _seed(rows: Rows) -> alt.StrokeDash | alt.StrokeDashValue:
    """Dash by seed where there are several, else none."""
    if len({row["seed"] for row in rows}) < 2:
        return _SOLID
    return alt.StrokeDash("seed:N", title="seed")


def _dodged(rows: Rows) -> Rows:
    """Add a position beside each step, so that runs at one step do not hide each other."""
    runs = list(dict.fromkeys(row["run_id"] for row in rows))
    span = max((row["step"] for row in rows), default=0) or 1
    gap = min(0.012, 0.06 / len(runs)) * span
    middle = (len(runs) - 1) / 2
    return [
        {**row, "position": row["step"] + gap * (runs.index(row["run_id"]) - middle)}
        for row in rows
    ]


def _largest_classes(rows: Rows) -> Rows:
    """Fold rare outcomes into `other`, and stack the shares of each bin, `passed` at the bottom."""
    order = _class_order(rows)
    kept = set(order[: _N_OUTCOMES - 1]) if len(order) > _N_OUTCOMES else set(order)
    bins: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        outcome = row["outcome"] if row["outcome"] in kept else "other"
        cells = bins.setdefault((row["run_id"], row["step"]), {})
        cell = cells.setdefault(outcome, {**row, "outcome": outcome, "n": 0})
        cell["n"] += row["n"]
    for cells in bins.values():
        total, low = sum(cell["n"] for cell in cells.values()), 0.0
        for outcome in [*order, "other"]:
            if outcome in cells and "low" not in cells[outcome]:
                high = low + cells[outcome]["n"] / total
                cells[outcome] |= {"low": low, "high": high}
                low = high
    return [cell for cells in bins.values() for cell in cells.values()]


def _class_order(rows: Rows) -> list[str]:
    """Outcomes by frequency: `passed` first, `other` last."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["outcome"]] = counts.get(row["outcome"], 0) + row["n"]
    return sorted(counts, key=lambda name: (name != "passed", name == "other", -counts[name], name))


def _facet(chart: alt.Chart, rows: Rows) -> alt.TopLevelMixin:
    """One panel a run, three in a line; a single run needs none."""
    if len({row["run_id"] for row in rows}) < 2:
        return chart.properties(width=640, height=320)
    header = alt.Header(title=None, labelFontSize=11, labelColor=_INK, labelLimit=300)
    return chart.facet(alt.Facet("run_id:N", header=header), columns=3)


def _tips(rows: Rows, *fields: str) -> list[str]:
    """Tooltip fields: who, where, what, and the interval where there is one."""
    who = ["run_id:N"] if "run_id" in rows[0] else ["algorithm:N"]
    intervals = [name for name in ("interval_low", "interval_high") if name in rows[0]]
    return [*who, "seed:N", "step:Q", *(f"{name}:Q" for name in (*fields, *intervals))]


def _range(rows: Rows, field: str) -> str:
    """One number, or the least and the largest."""
    values = sorted({int(row[field]) for row in rows})
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _seeds(rows: Rows) -> str:
    """Say which seeds the rows come from."""
    recorded = {str(row["seed"]) for row in rows if row["seed"] is not None}
    # Where seeds were pooled, a row has several, parted by commas.
    seeds = {seed for text in recorded for seed in text.split(", ")}
    names = ", ".join(sorted(seeds, key=lambda seed: (len(seed), seed)))
    if not names:
        return "no seed recorded"
    return f"seed {names}" if "," not in names else f"seeds {names}"


def _finish(chart: Any, title: str, *subtitle: str) -> alt.TopLevelMixin:  # noqa: ANN401
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
            color=_INK,
            subtitleColor=_MUTED,
            subtitleFontSize=12,
            subtitlePadding=5,
            offset=14,
        )
        .configure_axis(
            labelColor=_MUTED,
            titleColor=_INK,
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
            labelColor=_INK,
            titleColor=_MUTED,
            titleFontWeight="normal",
            labelFontSize=12,
            symbolOpacity=1,
        )
        .configure_view(stroke=None)
    )
    return done
