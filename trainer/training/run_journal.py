"""The journal of a training run: one process writes it, all know where it lies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from analysis.journal.journal import Journal, read_run_info
from analysis.provenance import folder_sha256, run_info, weights_of
from analysis.records import RunInfo
from evaluator.sampling.decoding import stored
from sandbox.client import Sandbox
from trainer.endings.processes import check_shared
from trainer.endings.resume import checkpoint_step, last_checkpoint, remember, unmark_after
from trainer.options.config import ConfigError, Options
from trainer.options.own import check_same_problems, check_unchanged
from trainer.rollouts.settings import training_settings
from trainer.training.loading import Loaded
from trainer.training.plan import Plan


class SilentJournal(contextlib.AbstractContextManager["SilentJournal"]):
    """The journal of a process that is not the main one: its rows are gathered and written there."""

    def __init__(self, journal_dir: Path, info: RunInfo) -> None:
        self.run_dir, self.info = journal_dir, info

    def append(self, *_: object) -> None:
        """Write nothing."""

    commit = finish = __exit__ = append


@contextlib.contextmanager
def new_journal(plan: Plan, loaded: Loaded, sandbox: Sandbox) -> Iterator[Journal]:
    """Open the journal of a run of its own, made by the main process and known to all.

    Raises:
        ConfigError: the machines do not share the runs folder.
        StoreError: the runs folder cannot be written.
    """
    state = PartialState()
    if not state.is_main_process:
        shared: list[Any] = [None, None]
        broadcast_object_list(shared)
        check_shared(shared[0])
        yield SilentJournal(*shared)  # type: ignore[misc]  # has what is called of it here
        return
    info = _describe(plan, loaded, sandbox)
    with Journal.create(Path(plan.options.bench.runs_dir), info) as journal:
        if state.num_processes > 1:
            broadcast_object_list([journal.run_dir, info])
            check_shared(journal.run_dir)
        remember(journal.run_dir, plan.algorithm, plan.options)
        yield journal


@contextlib.contextmanager
def resumed_journal(
    run_dir: Path, checkpoint: Path | None, sandbox: Sandbox, *, say: Callable[[str], None]
) -> Iterator[Journal]:
    """Open the journal of an interrupted run, from its checkpoint on; say so where another sandbox judges now.

    Raises:
        StoreError: it is no run, another process writes it, or its folder cannot be written.
    """
    step = (checkpoint_step(checkpoint) if checkpoint is not None else None) or 0
    if not PartialState().is_main_process:
        yield SilentJournal(run_dir, read_run_info(run_dir))  # type: ignore[misc]
        return
    with Journal.resume(run_dir, step=step) as journal:
        unmark_after(run_dir, step)
        say(f"resumed after step {step}")
        if journal.info.sandbox != sandbox.name:
            say(f"programs were judged by {journal.info.sandbox}, and are by {sandbox.name} now")
        yield journal


def _describe(plan: Plan, loaded: Loaded, sandbox: Sandbox) -> RunInfo:
    """The run as its run.json holds it, with how its rollouts are drawn."""
    options = plan.options
    decoding = stored(training_settings(loaded.model, loaded.tokenizer, options.training))
    return run_info(
        kind="train",
        algorithm=plan.algorithm,
        label=options.bench.label or plan.algorithm,
        config={**options.resolved(), "decoding": decoding},
        seed=options.training.seed,
        weights=weights_of(loaded.name),
        dataset=plan.problems,
        protocol=loaded.form.protocol,
        sandbox=sandbox.name,
        device=_device(),
        own=plan.own.recorded,
    )


def _device() -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {"gpu": None}
    return {
        "gpu": torch.cuda.get_device_name(),
        "gpu_memory_bytes": torch.cuda.get_device_properties(0).total_memory,
    }


def checkpoint_of(run_dir: Path, plan: Plan, *, say: Callable[[str], None]) -> Path | None:
    """The checkpoint from which an interrupted run goes on; None where it starts again.

    Raises:
        ConfigError: the problems, the model or what a person brought is not what the run began with, or there
            are damaged checkpoints only.
        StoreError: what the run began with cannot be read.
    """
    info = read_run_info(run_dir)
    check_same_problems(info, plan.problems)
    _check_model(info, plan.options)
    check_unchanged(run_dir, plan.own)
    return last_checkpoint(run_dir, say=say)


def _check_model(info: RunInfo, options: Options) -> None:
    """The weights a checkpoint was trained on must be those that are loaded under it."""
    name = Path(str(options.model.model_name_or_path))
    if info.model_sha256 and name.is_dir() and folder_sha256(name) != info.model_sha256:
        raise ConfigError(
            f"a resumed run must have the base model it started with, got other weights in {str(name)!r}; "
            "restore them"
        )
