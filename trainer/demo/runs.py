"""The runs of a demo, each made once: finished ones stay, interrupted ones continue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from analysis.journal.durable import write_durably
from analysis.journal.journal import Journal
from analysis.provenance import run_info, weights_of
from evaluator.evaluation.evaluate import evaluate
from evaluator.problems.mbpp import ProblemSet
from evaluator.problems.prompt import MBPP
from evaluator.results.stored import StoredEval, find_evals
from evaluator.sampling.model import Decoding, Policy
from sandbox.client import Sandbox
from trainer.demo.narration import BASELINE
from trainer.endings.resume import EXPERIMENT
from trainer.options.config import Algorithm, ConfigError, Options
from trainer.step.loss_trainer import BenchTrainer
from trainer.training.train import train

Advance = Callable[[int], None]


class Ledger:
    """Which run belongs to which part of the demo, on disk; other settings begin an empty one."""

    def __init__(self, path: Path, key: str) -> None:
        """Read the ledger at `path`, unless it is of settings with another key.

        Raises:
            ConfigError: it is damaged.
        """
        self._path = path
        self._key = key
        self._runs: dict[str, dict[str, Any]] = {}
        if not path.is_file():
            return
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["key"] == key:
                self._runs = {part: dict(entry) for part, entry in content["runs"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"the demo's ledger must be as it was written, got {str(path)!r} ({type(error).__name__}); "
                "remove it, and the demo begins anew"
            ) from error

    def begun(self, part: str) -> str | None:
        """Id of the part's run, finished or not."""
        return str(self._runs[part]["run_id"]) if part in self._runs else None

    def finished(self, part: str) -> str | None:
        """Id of the part's run, where it is finished."""
        return self.begun(part) if self._runs.get(part, {}).get("finished") else None

    def seconds(self, part: str) -> float | None:
        """Wall-clock seconds that the finished part took, where it was not interrupted."""
        seconds: float | None = self._runs.get(part, {}).get("seconds")
        return seconds

    def failed_layers(self, part: str) -> tuple[str, ...]:
        """Names of the audit layers that failed in the finished part."""
        return tuple(self._runs.get(part, {}).get("failed_layers", ()))

    def note(self, part: str, run_id: str, *, finished: bool, **found: object) -> None:
        """Write down how far a part has come, and its `seconds` and `failed_layers`; whole or not at all."""
        self._runs[part] = {"run_id": run_id, "finished": finished, **found}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = {"key": self._key, "runs": self._runs}
        write_durably(self._path, json.dumps(content, indent=1).encode())


@dataclass(frozen=True)
class Place:
    """Where a demo's runs are, and what they are evaluated on."""

    runs_dir: Path
    ledger: Ledger
    decoding: Decoding

    def evaluation(self, part: str) -> StoredEval:
        """The last evaluation of a finished part, as its journal has it."""
        run_id = self.ledger.finished(part)
        if run_id is None:
            raise RuntimeError(f"the part must be finished, got {part!r}; run it first")
        return find_evals(self.runs_dir, run_id)[0]


def evaluate_start(
    place: Place,
    policy: Policy,
    problem_set: ProblemSet,
    sandbox: Sandbox,
    *,
    batch_size: int,
    advance: Advance,
) -> None:
    """Evaluate the policy that every method starts from, as a run of its own."""
    info = run_info(
        kind="eval",
        label=BASELINE,
        config={"batch_size": batch_size},
        dataset=problem_set,
        protocol=MBPP,
        sandbox=sandbox.name,
        seed=place.decoding.seed,
        weights=weights_of(policy.name),
        device=policy.placement,
    )
    with Journal.create(place.runs_dir, info) as journal:
        evaluate(
            problem_set,
            policy,
            sandbox,
            journal=journal,
            eval_id="final",
            label=BASELINE,
            decoding=place.decoding,
            batch_size=batch_size,
            progress=advance,
        )
    place.ledger.note(BASELINE, info.run_id, finished=True)


def train_part(
    place: Place,
    part: str,
    algorithm: Algorithm,
    options: Options,
    *,
    advance: Advance,
    warn: Callable[[str], None],
) -> None:
    """Train one part of the demo, or go on with it where it was interrupted.

    `warn` is told of a full disk or a lost sandbox that the run waits out.
    """
    begun = place.ledger.begun(part)
    run_dir = None if begun is None else place.runs_dir / begun
    if run_dir is not None and not (run_dir / EXPERIMENT).is_file():
        run_dir = None  # interrupted before it could be gone on with

    def prepare(trainer: BenchTrainer) -> None:
        place.ledger.note(part, trainer.journal.info.run_id, finished=False)
        trainer.add_callback(_Steps(advance))

    started = time.monotonic()
    result = train(
        algorithm, options, say=lambda _: None, warn=warn, run_dir=run_dir, prepare=prepare
    )
    place.ledger.note(
        part,
        result.run_dir.name,
        finished=True,
        # of an interrupted part the time is not known
        seconds=None if run_dir is not None else time.monotonic() - started,
        failed_layers=[layer.name for layer in result.layers if not layer.passed],
    )


class _Steps(TrainerCallback):
    """Tells a progress display of each optimizer step."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    def on_train_begin(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        self._advance(int(state.global_step))

    def on_step_end(self, *_: object, **__: object) -> None:
        self._advance(1)
