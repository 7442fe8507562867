"""Which figures there are, and how they become files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from duckdb import DuckDBPyConnection as Connection

from analysis import queries
from analysis.installation import install_command
from analysis.journal.journal import StoreError
from analysis.queries import Runs
from analysis.render import Result, make_folder, unique, visible, written_whole
from analysis.words import word

if TYPE_CHECKING:
    import altair


@dataclass(frozen=True)
class Figure:
    """One figure: its file name, the rows it shows, and the function of `charts` that draws them."""

    name: str
    query: Callable[[Connection, Runs], Result]
    chart: str
    settings: tuple[str, ...] = ()
    """Columns whose values must agree within a figure: each combination gets one of its own."""
    section: Literal["evaluation", "training", "cost"] = "training"
    """What it is about: where a page shows it."""


_EVAL = ("dataset", "protocol", "decoding")
_TRAIN = ("model", "dataset")
FIGURES = (
    Figure("pass_at_1", queries.eval_curve, "pass_at_1_over_steps", _EVAL, "evaluation"),
    Figure("training_reward", queries.reward_curve, "training_reward", _TRAIN),
    Figure("sdpo_internals", queries.sdpo_internals, "sdpo_internals"),
    Figure("audit_deltas", queries.audits, "audit_deltas", section="cost"),
    Figure("comparison", queries.comparison, "comparison", _EVAL, "evaluation"),
    Figure("flips", queries.flips, "flips", section="evaluation"),
    Figure("solve_matrix", queries.solve_matrix, "solve_matrix", section="evaluation"),
    Figure("failure_classes", queries.failure_classes, "failure_classes"),
    Figure("pass_at_k", queries.pass_at_k, "pass_at_k", ("dataset", "protocol"), "evaluation"),
    Figure("group_signal", queries.signal, "signal", _TRAIN),
    Figure("teacher_kinds", queries.teacher_kinds, "teacher_kinds"),
    Figure("teacher_gap", queries.teacher_gap, "teacher_gap"),
    Figure("step_time", queries.step_time, "step_time", section="cost"),
    Figure("sandbox_latency", queries.sandbox_latency, "sandbox_latency", section="cost"),
    Figure("token_divergence", queries.token_divergence, "token_divergence"),
)


_LONGEST_SETTING = 80
"""Characters of a setting in a figure's text: of a folder the last ones."""


class _NoMarkup(json.JSONEncoder):
    """JSON within a script of a page: a label or a token that is markup stays text, and ends no script."""

    def encode(self, o: object) -> str:
        return super().encode(o).replace("<", "\\u003c")  # it stands in strings alone


_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"scale_factor": 2},
    "html": {"inline": True, "json_kwds": {"cls": _NoMarkup}},
}


@dataclass(frozen=True)
class Drawn:
    """A figure with its rows."""

    name: str
    figure: Figure
    rows: Result
    chart: altair.TopLevelMixin


def draw(connection: Connection, figures: Sequence[Figure], run_ids: Runs = None) -> list[Drawn]:
    """Draw the figures that have rows. StoreError: the charts extra is not installed."""
    drawn = []
    for figure in figures:
        result = figure.query(connection, run_ids)
        groups = _by_setting(figure, result)
        for name, setting, rows in groups:
            chart = _chart_function(figure.chart)(rows)
            if len(groups) > 1:  # else nothing tells one from another
                chart.title.subtitle = [*chart.title.subtitle, _said(figure, setting)]
            drawn.append(Drawn(name, figure, rows, chart))
    return drawn


def _said(figure: Figure, setting: Sequence[object]) -> str:
    """Of which setting one of several figures of a kind is."""
    parts = []
    for name, held in zip(figure.settings, setting, strict=True):
        if held is not None:
            shown = visible(str(held), 1000)
            shown = shown if len(shown) <= _LONGEST_SETTING else "…" + shown[1 - _LONGEST_SETTING :]
            parts.append(f"{word(name)} {shown}")
    return f"of these only: {', '.join(parts) or 'no setting is known'}"


def save(drawn: Drawn, folder: Path, forms: Sequence[str]) -> list[Path]:
    """Write a figure as `<name>.<form>`, form png, svg, html or json. StoreError: the folder cannot be written."""
    return save_chart(drawn.chart, drawn.name, folder, forms)


def save_chart(
    chart: altair.TopLevelMixin, name: str, folder: Path, forms: Sequence[str]
) -> list[Path]:
    """Write a chart as `<name>.<form>` for each form, each file whole. StoreError: the folder cannot be written."""
    make_folder(folder)
    paths = []
    for form in forms:
        path = folder / f"{name}.{form}"
        with written_whole(path, suffix=f".{form}") as temporary:
            chart.save(str(temporary), **_SAVE_OPTIONS.get(form, {}))
        paths.append(path)
    return paths


def _by_setting(figure: Figure, result: Result) -> list[tuple[str, tuple[object, ...], Result]]:
    """Split rows so that only comparable ones share a figure: name, setting, rows; the first has the plain name."""
    if not result.rows:
        return []
    places = [result.columns.index(name) for name in figure.settings]
    groups: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
    for row in result.rows:
        groups.setdefault(tuple(row[place] for place in places), []).append(row)
    # The setting with most rows is what the runs were made for.
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), str(item[0])))
    settings = [setting for setting, _ in ordered]
    slugs = [f"{figure.name}-{_slug(setting)}" for setting in settings[1:]]
    names = unique([figure.name, *slugs])  # a file of one must not take the place of another's
    rows = [Result(result.columns, each) for _, each in ordered]
    return list(zip(names, settings, rows, strict=True))


def _slug(setting: Sequence[object]) -> str:
    """Name a setting so that a file can bear it."""
    return re.sub(r"[^a-zA-Z0-9.]+", "-", "-".join(map(str, setting))).strip("-.")[:80]


def _chart_function(name: str) -> Callable[[Result], altair.TopLevelMixin]:
    """Return a function of `charts`; importing altair takes a second, so only when one is drawn."""
    try:
        from analysis import charts
    except ModuleNotFoundError as error:
        raise StoreError(
            f"charts need the charts extra, got no module {error.name!r}; "
            f"{install_command('charts')}"
        ) from error
    function: Callable[[Result], altair.TopLevelMixin] = getattr(charts, name)
    return function
