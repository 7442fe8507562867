"""The tables of a report: evaluations, runs, and the settings in which runs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from analysis.render import Result
from analysis.report.markup import count, folded, table
from analysis.statistics.conditions import listed
from analysis.words import value

_OF_THE_RUN = ("algorithm", "seed", "model", "dataset", "protocol", "sandbox", "git_commit")
"""What is compared between runs beside their configurations."""
_ABSENT = "–"
_NO_ALGORITHM = {"eval": "evaluation", "train": ""}

Run = Mapping[str, Any]


def evaluations(board: Result) -> str:
    """The last evaluation of each run; what was measured stands first, so that a phone shows it."""
    rows = [
        (
            row["name"],
            value(row, "pass_at_1"),
            _interval(row),
            row["counts"],
            row["algorithm"],
            "" if row["seed"] is None else row["seed"],
            short_model(row["model"]),
            row["dataset"],
            row["decoding"],
        )
        for row in board.records()
    ]
    if not rows:
        return "<p>No evaluation has finished.</p>"
    names = ("policy", "pass@1", "95 % interval", "solved", "algorithm", "seed", "model")
    return table(
        (*names, "problems", "decoding"), rows, label="Last evaluations", numbers={1, 2, 3, 5}
    )


def runs(overview: Sequence[Run]) -> str:
    """Every run with its state."""
    rows = [
        (
            run["name"],
            run["state"] or "",
            _step(run),
            f"{run['n_rollouts']:,}" if run["kind"] == "train" else "",
            run["algorithm"] or _NO_ALGORITHM.get(run["kind"], run["kind"]),
            "" if run["seed"] is None else run["seed"],
            short_model(run["model"]),
            run["error"] or "",
        )
        for run in overview
    ]
    if not rows:
        return "<p>There are no runs.</p>"
    names = ["run", "state", "step", "rollouts", "algorithm", "seed", "model", "error"]
    if not any(row[-1] for row in rows):
        names, rows = names[:-1], [row[:-1] for row in rows]  # type: ignore[misc]
    return table(names, rows, label="Runs", numbers={2, 3, 5})


def settings(described: Sequence[Run]) -> str:
    """Settings on which runs disagree; those on which they agree are folded away."""
    flats = [
        flat(json.loads(run["config"])) | {name: run[name] for name in _OF_THE_RUN}
        for run in described
    ]
    names = [str(run["name"]) for run in described]
    differing: list[str] = []
    same: list[tuple[str, str]] = []
    partly: list[tuple[str, str, str]] = []
    for key in sorted({key for each in flats for key in each}):
        held = [name for name, each in zip(names, flats, strict=True) if key in each]
        found = {_written(each[key]) for each in flats if key in each}
        if len(found) > 1:
            differing.append(key)
        elif len(held) == len(flats):
            same.append((key, found.pop()))
        else:
            partly.append((key, found.pop(), listed(held, 6)))
    parts = [_differing(names, flats, differing)]
    if partly:
        title = (
            f"{count(len(partly), 'setting')} that only some runs have, and on which these agree"
        )
        shown = table(("setting", "value", "runs that have it"), partly, label=title)
        parts.append(folded(title, shown))
    if same:
        title = f"{count(len(same), 'setting')} " + (
            "of the run" if len(flats) == 1 else "with one value in all runs"
        )
        parts.append(folded(title, table(("setting", "value"), same, label=title)))
    return "".join(parts)


def short_model(model: str | None) -> str:
    """A model's name: of a folder, its last two parts."""
    if not model:
        return ""
    parts = PurePath(model).parts
    return model if len(parts) <= 2 else "…/" + "/".join(parts[-2:])


def flat(config: Mapping[str, Any], lead: str = "") -> dict[str, Any]:
    """A nested configuration with dotted names."""
    found: dict[str, Any] = {}
    for key, held in config.items():
        if isinstance(held, dict):
            found |= flat(held, f"{lead}{key}.")
        else:
            found[lead + key] = held
    return found


def _differing(
    names: Sequence[str], flats: Sequence[Mapping[str, Any]], keys: Sequence[str]
) -> str:
    """A row a setting and a column a run; turned round where there are more runs than settings."""
    if len(flats) < 2:
        return "" if flats else "<p>There are no runs.</p>"
    if not keys:
        return "<p>All settings that two runs have are the same.</p>"
    cells = [[_written(each[key]) if key in each else _ABSENT for each in flats] for key in keys]
    label = "Settings that differ"
    if len(flats) > len(keys):
        rows = [[name, *(row[i] for row in cells)] for i, name in enumerate(names)]
        return table(("run", *keys), rows, label=label)
    rows = [[key, *row] for key, row in zip(keys, cells, strict=True)]
    return table(("setting", *names), rows, label=label)


def _interval(row: Run) -> str:
    """The interval of a row's pass@1; nothing where it has none."""
    low, high = value(row, "interval_low"), value(row, "interval_high")
    return f"{low.removesuffix(' %')} to {high}" if low and high else ""


def _written(setting: object) -> str:
    return (
        "none" if setting is None else setting if isinstance(setting, str) else json.dumps(setting)
    )


def _step(run: Run) -> str:
    if run["last_step"] is None:
        return ""
    planned = "" if run["planned_steps"] is None else f" of {run['planned_steps']:,}"
    return f"{run['last_step']:,}{planned}"
