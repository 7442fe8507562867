"""TRL's GRPOTrainer with its optimizer steps, micro-batches and rollout batches counted over the whole run.

Micro-batches are counted by `_step`. Rollout batch n serves those from n * `micro_batches_a_rollout` on: it may
serve several optimizer steps, and a step may take several of them.

Private hooks of TRL 1.14 and transformers 5 that it uses (tests/trainer/step/test_trl_contract.py fails where one
changes): `_prepare_inputs`, `_get_train_sampler`, `_metrics`, `_step`, `_buffered_inputs`, `_tr_loss`,
`_globalstep_last_logged`, `get_batch_samples`, `_load_from_checkpoint`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import PreTrainedModel
from trl import GRPOTrainer

from evaluator.models.shared_prompt import can_share
from trainer.options.config import Algorithm
from trainer.step.micro_batches import MicroBatch, by_group, step_counts, trimmed, with_groups
from trainer.step.position import EpochSampler, take_up_renamed_weights
from trainer.step.timing import PhaseClock

logger = logging.getLogger(__name__)


class BatchTrainer(GRPOTrainer):
    """Samples all rollout batches that begin in an optimizer step before the first of its micro-batches."""

    _step: int
    aux_loss_enabled: bool
    _n_groups: int
    """Groups sampled so far in the step in work."""

    def __init__(self, *args: Any, algorithm: Algorithm, **kwargs: Any) -> None:
        self.algorithm = algorithm
        cuda = torch.cuda.is_available()
        self.clock = PhaseClock(synchronize=torch.cuda.synchronize if cuda else lambda: None)
        self._asked: list[Any] = []
        """What the micro-batches of the optimizer step in work ask: problems, before sampling."""
        self._micro_batches: list[MicroBatch] = []
        """Those of the step that are still to be trained on."""
        self._timed_from = 0
        """The step after which the clock was last read, or started."""
        super().__init__(*args, **kwargs)
        if algorithm != "grpo" and self.aux_loss_enabled:
            self.aux_loss_enabled = False
            logger.warning(
                "the balancing loss of the model's router is left out with %s; for a GRPO run to compare with, "
                "set router_aux_loss_coef to 0",
                algorithm,
            )

    @property
    def micro_batches_a_rollout(self) -> int:
        """Micro-batches that one rollout batch serves, repeats counted."""
        return int(self.args.steps_per_generation) * int(self.num_iterations)

    @property
    def n_used_rollouts(self) -> int:
        """Rollout batches that no coming micro-batch reads."""
        return int(self._step) // self.micro_batches_a_rollout

    def _current_step(self) -> int:
        return int(self.state.global_step) + 1

    def _rollout_seed(self) -> int:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        number = self.n_used_rollouts
        return int(self.args.seed) + 7_919 * (number * int(world) + int(rank) + 1)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """As transformers': what the micro-batches of the next optimizer step ask."""
        self._asked, n_items = super().get_batch_samples(*args, **kwargs)
        return self._asked, n_items

    def _prepare_inputs(self, generation_batch: Any) -> Any:  # noqa: ANN401
        """The next micro-batch; before a step's first one, all rollout batches that begin in it are sampled.

        The weights stand still within a step, so sampling early samples the same; and the loss, a mean over
        the step, must know all of the step's tokens from its first micro-batch on.
        """
        with self.clock("rest"):
            if not self._micro_batches:
                self._micro_batches = self._of_step(self._asked)
            return self._micro_batches.pop(0)

    def _of_step(self, asked: list[Any]) -> list[MicroBatch]:
        self._n_groups, first = 0, self._step
        micro_batches = []
        try:
            for problems in asked:
                micro_batches.append(super()._prepare_inputs(problems))
                self._step += 1  # TRL reads from it whether to sample, and which part is next
        finally:
            self._step = first
        counts = step_counts(micro_batches, self.algorithm, self.accelerator.gather)
        return [{**m, **counts} for m in self._arranged(micro_batches)]

    def _arranged(self, micro_batches: list[MicroBatch]) -> list[MicroBatch]:
        """As they are trained on; a width that a person asked for is kept."""
        if self.pad_to_multiple_of is not None:
            return micro_batches
        if self._adds_up() and can_share(self.model):
            n = int(self.args.steps_per_generation)
            parts = [(self._step + place) // n for place in range(len(micro_batches))]
            micro_batches = by_group(micro_batches, parts)
        return [with_groups(trimmed(batch)) for batch in micro_batches]

    def _adds_up(self) -> bool:
        """Whether a step's loss is a sum over its rows, wherever they stand: TRL has terms that are not."""
        if self.algorithm in ("sdpo", "audit", "sft"):
            return True
        return bool(
            self.loss_type != "bnpo"
            and self.top_entropy_quantile == 1.0
            and not self._entropy_bonus_enabled
            and not self.aux_loss_enabled
        )

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:  # noqa: ANN401
        return EpochSampler(
            data_source=self.train_dataset if dataset is None else dataset,
            mini_repeat_count=self.num_generations,
            batch_size=self.args.generation_batch_size // self.num_generations,
            repeat_count=self.micro_batches_a_rollout,
            shuffle=self.shuffle_dataset,
            seed=self.args.seed,
            epoch=lambda: int(self.state.epoch or 0),
        )

    def _load_from_checkpoint(self, checkpoint: str, model: Any = None) -> None:  # noqa: ANN401
        """As transformers', with weights that it would not find by their names."""
        super()._load_from_checkpoint(checkpoint, model)
        inner = self.accelerator.unwrap_model(self.model if model is None else model)
        if isinstance(inner, PreTrainedModel):
            take_up_renamed_weights(inner, Path(checkpoint))

    def position(self) -> dict[str, Any]:
        """What goes on after the last whole step: see `trainer.step.position`."""
        in_use = self._step % self.micro_batches_a_rollout != 0
        return {
            "micro_batches": int(self._step),
            "rollouts": list(self._buffered_inputs) if in_use else None,
            "metrics": {name: list(values) for name, values in self._metrics["train"].items()},
            "loss": float(self._tr_loss),
            "last_logged": int(self._globalstep_last_logged),
        }

    def set_position(self, position: Mapping[str, Any]) -> None:
        """Go on from what `position` returned."""
        self._step = position["micro_batches"]
        self._buffered_inputs = position["rollouts"]
        self._metrics["train"].update(position["metrics"])
        self._tr_loss += position["loss"]
        self._globalstep_last_logged = position["last_logged"]
        self._timed_from = int(self.state.global_step)


def gathered(rows: list[Any]) -> list[Any]:
    """The rows of all processes, in the order of the processes."""
    return list(gather_object(rows))


def local_rows(rows: Sequence[Any], n_rows: int, process_index: int) -> list[Any]:
    """Those of one process, of which each has `n_rows`."""
    return list(rows[process_index * n_rows : (process_index + 1) * n_rows])
