"""What an interrupted run needs to continue: its original options, and the last whole checkpoint."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState
from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from trainer.endings.faults import Patience
from trainer.options.config import Algorithm, ConfigError, Options, parse_options

EXPERIMENT = "experiment.json"
"""In the run's folder: algorithm, text of the configuration file, command-line options, number of processes."""
COMPLETE = "complete"
"""In a checkpoint's folder: written last, so a checkpoint without it was interrupted. Holds what must be there."""


def remember(run_dir: Path, algorithm: Algorithm, options: Options) -> None:
    """Write the experiment into the run's folder, whole or not at all."""
    content = {
        "algorithm": algorithm,
        "config": options.config_text,
        "overrides": list(options.overrides),
        "n_processes": _n_processes(),
    }
    _write(run_dir / EXPERIMENT, json.dumps(content, indent=1))


def recall(run_dir: Path) -> tuple[Algorithm, Options]:
    """Read what `remember` wrote.

    Raises:
        ConfigError: the folder holds no training run, or one of another number of processes.
    """
    path = run_dir / EXPERIMENT
    try:
        content = json.loads(path.read_text())
        algorithm, config_text, overrides = (
            content[name] for name in ("algorithm", "config", "overrides")
        )
        began = content.get("n_processes", 1)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ConfigError(
            f"--resume must name the folder of a training run, got {str(run_dir)!r} without a readable "
            f"{EXPERIMENT}; `sdpo-bench runs` lists them"
        ) from error
    now = _n_processes()
    if began != now:
        raise ConfigError(
            f"a resumed run must have the {began} process(es) it started with, got {now}: its batches would be "
            f"others; launch it with --num_processes {began}"
        )
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(config_text)
        return algorithm, parse_options(config, overrides)


def _n_processes() -> int:
    """As the launcher says it; accelerate's state would be fixed before the options are read that decide it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def last_checkpoint(run_dir: Path, *, say: Callable[[str], None] = lambda _: None) -> Path | None:
    """The newest whole checkpoint, or None where the run has none.

    One that was whole and is not any more is passed over, which `say` is told.

    Raises:
        ConfigError: there are only such ones.
    """
    written = [
        (step, folder)
        for folder in (run_dir / "checkpoints").glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        if (step := checkpoint_step(folder)) is not None and (folder / COMPLETE).exists()
    ]
    passed_over: list[tuple[int, str]] = []
    for step, folder in sorted(written, reverse=True):
        damage = _damage(folder)
        if damage is None:
            for later, lacking in passed_over:
                say(f"checkpoint {later} is passed over: it must hold {lacking}")
            return folder
        passed_over.append((step, damage))
    if written:
        raise ConfigError(
            f"a checkpoint must hold {passed_over[0][1]} in {max(written)[1]}; restore it, or delete the run's "
            "checkpoints to start again"
        )
    return None


def _damage(folder: Path) -> str | None:
    """What a marked checkpoint must hold and does not; None where it is whole, or its mark says nothing."""
    try:
        text = (folder / COMPLETE).read_text()
        if not text:  # an earlier version wrote it
            return None
        content = json.loads(text)
        step, sizes = content["step"], dict(content["bytes"])
    except (OSError, ValueError, TypeError, LookupError) as error:
        return f"a readable {COMPLETE}, got {type(error).__name__}"
    if step != checkpoint_step(folder):
        return f"the state of the step in its name, got that of step {step}"
    for name, size in sorted(sizes.items()):
        path = folder / name
        if not path.is_file():
            return f"{name}, got none"
        if path.stat().st_size != size:
            return f"{name} whole, got {path.stat().st_size} of {size} bytes"
    return None


def unmark_after(run_dir: Path, step: int) -> None:
    """Let no checkpoint after a step count: their rows are dropped, and their steps are taken again."""
    for folder in (run_dir / "checkpoints").glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if (checkpoint_step(folder) or 0) > step:
            (folder / COMPLETE).unlink(missing_ok=True)


def checkpoint_step(folder: Path) -> int | None:
    """The optimizer step in a checkpoint folder's name."""
    match = re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)", folder.name)
    return int(match[1]) if match else None


def checkpoint_folder(args: TrainingArguments, state: TrainerState) -> Path:
    """Where the checkpoint after the last whole step goes."""
    return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


class MarkComplete(TrainerCallback):
    """Marks each checkpoint once all of it is on disk; goes after whatever else writes into it."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience

    def on_save(
        self, args: TrainingArguments, state: TrainerState, *_: object, **__: object
    ) -> None:
        """Sync the checkpoint's files, once every process has written its own, then write the mark."""
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            folder = checkpoint_folder(args, state)
            self._patience(lambda: _mark(folder), "marking the checkpoint")


def _mark(folder: Path) -> None:
    sizes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (COMPLETE, _part(folder / COMPLETE).name):
            _sync(path)
            if path.suffix != ".md":  # for people, who may edit it
                sizes[path.relative_to(folder).as_posix()] = path.stat().st_size
    content = {"step": checkpoint_step(folder), "bytes": sizes}
    _write(folder / COMPLETE, json.dumps(content, indent=1))


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _write(path: Path, text: str) -> None:
    part = _part(path)
    part.write_text(text)
    _sync(part)
    part.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
