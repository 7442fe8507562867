"""Figures of evaluations: pass@1, pass@k, and which policy solves which problem."""

from __future__ import annotations

import altair as alt

from analysis.charts.style import (
    INK,
    SOLID,
    TIP,
    Rows,
    algorithm,
    canvas,
    ends,
    estimates,
    finish,
    percent,
    records,
    seed,
    seeds,
    series,
    span,
    step_axis,
    tipped,
)
from analysis.render import Result, visible
from analysis.statistics.verdict import p_text


def pass_at_1_over_steps(result: Result) -> alt.TopLevelMixin:
    """Draw pass@1 of each run's evaluations over steps; rows of `queries.eval_curve`.

    Where equal settings have several seeds, thin lines are the runs and a thick one is their mean, at the steps
    that all of them have: it would jump where one is missing.
    """
    rows = tipped(_dodged(records(result)), "step", "pass_at_1", "counts")
    several = len({row["run_id"] for row in rows}) > len({row["series"] for row in rows})
    base = canvas(rows).encode(x=step_axis("position", rows), color=algorithm(rows))
    y = percent("pass_at_1", "pass@1 (% of problems)", zero=False)
    layers = [
        base.mark_rule(opacity=0.3 if several else 0.55, strokeWidth=1.5).encode(**ends(y)),
        base.mark_line(strokeWidth=1 if several else 2.2, opacity=0.4 if several else 1).encode(
            y=y, detail="run_id:N", strokeDash=series(rows)
        ),
        base.mark_point(filled=True, size=30 if several else 60, opacity=1).encode(y=y, **TIP),
    ]
    if several:
        means = canvas(_of_every_run(rows)).encode(
            x=step_axis("step", rows), y=y.aggregate("mean"), color=algorithm(rows)
        )
        thick = means.mark_line(strokeWidth=3)
        layers.append(thick.encode(detail="series:N", strokeDash=series(rows)))
    sampled = any(row["n_answers"] != row["n"] for row in rows)
    return finish(
        alt.layer(*layers),
        "pass@1 over training",
        f"n = {span(rows, 'n')} problems an evaluation; {seeds(rows)}"
        + ("; mean over several answers a problem" if sampled else "")
        + (
            "; thick: mean of the runs of equal settings, where all have an evaluation"
            if several
            else ""
        ),
        "bars: 95 % Wilson interval of each evaluation; runs at one step are drawn side by side",
    )


def solve_matrix(result: Result) -> alt.TopLevelMixin:
    """Draw which evaluation solves which problem; rows of `queries.solve_matrix` for one run."""
    rows = tipped(result, "task_id", "step", "n_solved", "n_samples")
    n_tasks = len({row["task_id"] for row in rows})
    chart = (
        canvas(rows, width=600, height=max(60, 26 * len({row["eval_id"] for row in rows})))
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
                legend=alt.Legend(format=".0%"),
            ),
            **TIP,
        )
    )
    return finish(
        chart,
        "Which checkpoint solves which problem",
        f"{rows[0]['name']}: n = {n_tasks} problems; {seeds(rows)}",
    )


def flips(result: Result) -> alt.TopLevelMixin:
    """Draw problems gained and lost between two evaluations; rows of `queries.flips`."""
    rows = tipped(result, "change", "n", "task_ids")
    bars = (
        canvas(rows, width=520, height=140)
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
            **TIP,
        )
    )
    labels = bars.mark_text(align="left", dx=5, color=INK).encode(text="n:Q", color=alt.value(INK))
    total = sum(row["n"] for row in rows)
    p_value, no_test = rows[0]["p_value"], rows[0]["no_test"]
    test = "no test" if no_test else f"exact McNemar p = {p_text(p_value)}"
    return finish(
        alt.layer(bars, labels),
        f"From {rows[0]['name_a']} to {rows[0]['name_b']}",
        f"n = {total} problems; {seeds(rows)}; {test}",
        visible(no_test, 160)
        if no_test
        else "of these two evaluations alone: other seeds may say otherwise",
    )


def pass_at_k(result: Result) -> alt.TopLevelMixin:
    """Draw pass@k over k; rows of `queries.pass_at_k`."""
    rows = tipped(result, "k", "pass_at_k", "n_problems", "n_samples")
    ks = sorted({row["k"] for row in rows})
    ticks = {"values": ks, "format": "d"} if len(ks) <= 16 else {"tickMinStep": 1}
    base = canvas(rows).encode(
        x=alt.X("k:Q", title="k (completions tried)", axis=alt.Axis(**ticks, grid=False)),
        color=algorithm(rows),
        detail="series:N",
        strokeDash=seed(rows),
    )
    y = percent("pass_at_k", "pass@k (% of problems)", zero=False)
    return finish(
        alt.layer(
            base.mark_area(opacity=0.12).encode(**ends(y), strokeDash=SOLID),
            base.mark_line(strokeWidth=2.2).encode(y=y),
            base.mark_point(filled=True, size=40, opacity=1).encode(y=y, **TIP),
        ),
        "pass@k of the last evaluation",
        f"n = {span(rows, 'n_problems')} problems, {span(rows, 'n_samples')} completions each; "
        f"{seeds(rows)}",
        "unbiased estimator; bands: 95 % interval over problems (Wilson)",
    )


def comparison(result: Result) -> alt.TopLevelMixin:
    """Draw pass@1 of each policy as a forest plot; rows of `queries.comparison`."""
    rows = tipped(result, "pass_at_1", "counts", "model")
    base = canvas(rows, width=560, height=max(80, 30 * len(rows))).encode(
        y=alt.Y("name:N", title=None, sort=None, axis=alt.Axis(grid=False, labelLimit=320)),
        color=algorithm(rows, legend=False),
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
    return finish(
        estimates(base, x, width=2.5, size=90) + label,
        "Every policy's last evaluation",
        f"n = {span(rows, 'n')} problems; {seeds(rows)}; bars: 95 % Wilson interval",
        "intervals that overlap do not decide a comparison: the paired test on flips does",
    )


def teacher_gap(result: Result) -> alt.TopLevelMixin:
    """Draw what being shown something changes before training; rows of `queries.teacher_gap`."""
    rows = tipped(result, "model", "shown", "measure", "nothing", "value", "difference", "n")
    titles = {
        "pass_rate": "pass rate (fraction of problems)",
        "passing_logprob": "log p, passing (nats a token)",
        "failing_logprob": "log p, failing (nats a token)",
    }
    names = list(dict.fromkeys(row["name"] for row in rows))
    height = 26 * 5 * max(1, len(names))
    panels: list[alt.LayerChart] = []
    for measure, title in titles.items():
        chosen = [row for row in rows if row["measure"] == measure]
        if not chosen:
            continue
        base = canvas(chosen, width=190, height=height).encode(
            y=alt.Y(
                "shown:N",
                title=None,
                sort=None,
                # in every panel the same rows, so that the first one's labels hold for all
                scale=alt.Scale(domain=["peer", "reference", "feedback", "wrong", "other"]),
                axis=alt.Axis(grid=False, labels=not panels, ticks=False),
            ),
            yOffset=alt.YOffset("name:N", sort=names),
            color=alt.Color(
                "name:N",
                title="model's run",
                sort=names,
                legend=alt.Legend(labelLimit=300),
                scale=alt.Scale(range=["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#6b7280"]),
            ),
        )
        zero = canvas([{"zero": 0}], width=190, height=height)
        zero = zero.mark_rule(color=INK, strokeDash=[3, 3])
        zero = zero.encode(x=alt.X("zero:Q", title=title))
        panels.append(estimates(base, alt.X("difference:Q", title=title)) + zero)
    return finish(
        alt.hconcat(*panels),
        "What a model gains before training where something is shown beside the problem",
        f"n = {span(rows, 'n')} problems; {seeds(rows)}; difference from being shown nothing",
        "bars: 95 % interval of the paired difference; pass rates are of greedy answers",
    )


def _of_every_run(rows: Rows) -> Rows:
    """Rows of the steps at which every run of their series has one."""
    runs: dict[object, set[object]] = {}
    there: dict[object, set[object]] = {}
    for row in rows:
        runs.setdefault(row["series"], set()).add(row["run_id"])
        there.setdefault((row["series"], row["step"]), set()).add(row["run_id"])
    return [row for row in rows if there[row["series"], row["step"]] == runs[row["series"]]]


def _dodged(rows: Rows) -> Rows:
    """Add counts, and a position beside each step, so that runs at one step do not hide each other."""
    runs = list(dict.fromkeys(row["run_id"] for row in rows))
    span = max((row["step"] for row in rows), default=0) or 1
    gap = min(0.012, 0.06 / len(runs)) * span
    middle = (len(runs) - 1) / 2
    return [
        {
            **row,
            "position": row["step"] + gap * (runs.index(row["run_id"]) - middle),
            "counts": f"{row['n_passed']:,} of {row['n_answers']:,}"
            + ("" if row["n_answers"] == row["n"] else " answers"),
        }
        for row in rows
    ]
