"""Names an evaluation that was given no label, so that it can be told from others and looked up."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from analysis.journal.journal import labelled_runs, same_label

_SAYS_NOTHING = {
    *("adapter", "adapters", "lora", "model", "models", "weights", "checkpoints", "checkpoint"),
    *("final", "best", "last", "latest", "out", "output", "outputs", "results", "run", "runs"),
}
"""Names of folders that every run has."""
_STEP = re.compile(r"(?:checkpoint|step|global_step|epoch)[-_]?\d+", re.I)
_LONGEST = 100


def folder_label(folder: Path) -> str:
    """Name a folder of weights by its run and checkpoint, e.g. `sdpo-42-checkpoint-50`."""
    step = ""
    for part in reversed(folder.absolute().parts[1:]):
        if _STEP.fullmatch(part):
            step = step or f"-{part}"
        elif part.lower() not in _SAYS_NOTHING:
            return findable(part + step)
    return findable(folder.absolute().name + step)


def name_label(name: str) -> str:
    """Name a model: a folder as above, a hub name by its last part."""
    return folder_label(Path(name)) if Path(name).is_dir() else findable(Path(name).name)


def findable(text: str) -> str:
    """Return a text as a label by which a run can be looked up; see `analysis.provenance.check_label`."""
    plain = "".join(char if char.isprintable() and char != "," else "_" for char in text)
    return plain.strip().lstrip("-")[-_LONGEST:].strip().lstrip("-") or "unnamed"


def tell_if_taken(
    runs_dir: Path, label: str, say: Callable[[str], None], *, option: str = "--label"
) -> None:
    """Say which runs bear a label already, and what `compare` makes of it."""
    earlier = labelled_runs(runs_dir, label)
    if earlier:
        say(f"warning: {same_label(label, earlier, option=option)}")
