"""Evaluates the policy as it stands, before training, every N steps and at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from transformers import TrainerCallback, TrainerState

from analysis.journal.durable import write_durably
from analysis.words import percent
from evaluator.evaluation.evaluate import EvalSummary, evaluate
from evaluator.problems.mbpp import ProblemSet
from evaluator.results.stored import BESIDE
from evaluator.sampling.model import Decoding
from sandbox.client import Sandbox
from trainer.endings.stop import StopRequest
from trainer.options.prompting import Asking
from trainer.rollouts.settings import filters_of
from trainer.step.loss_trainer import BenchTrainer

DONE = "evaluated.json"
"""In the run's folder: the steps whose evaluation is whole."""


class _Interrupted(Exception):
    """Somebody asked the run to stop in the midst of an evaluation."""


class Evaluation(TrainerCallback):
    """Evaluates a trainer's policy into the run's journal: before training, every N steps and at the end.

    Each step once, also over a resume. A fault is waited out, a stop leaves the evaluation to the resumed run.
    """

    def __init__(
        self,
        trainer: BenchTrainer,
        problems: ProblemSet,
        sandbox: Sandbox,
        *,
        form: Asking,
        say: Callable[[str], None],
        stop: StopRequest,
    ) -> None:
        self.summaries: list[tuple[int, EvalSummary]] = []
        """(optimizer step, summary), in order of the steps."""
        self._trainer, self._problems, self._sandbox = trainer, problems, sandbox
        self._form, self._say, self._stop = form, say, stop
        self._n_done, self._n_asked = 0, 0
        self._done_file = Path(trainer.journal.run_dir) / DONE

    def on_train_begin(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        """The point that a curve starts from, and what a stop left undone."""
        self.catch_up(state.global_step, state.max_steps)

    def catch_up(self, step: int, max_steps: int) -> None:
        """Evaluate a step that is due and has no whole evaluation, as a run begins or goes on after it."""
        self._forget_after(step)
        if self._due(step, max_steps) and step not in self._done():
            self._evaluate_here(step)

    def on_step_end(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        """Evaluate where the step asks for it."""
        if self._due(state.global_step, state.max_steps):
            self._evaluate_here(state.global_step)

    def _due(self, step: int, max_steps: int) -> bool:
        return step % self._trainer.config.evaluate_every == 0 or step == max_steps

    def _done(self) -> list[int]:
        """The steps whose evaluation is whole."""
        found: list[int] = (
            json.loads(self._done_file.read_text()) if self._done_file.exists() else []
        )
        return found

    def _forget_after(self, step: int) -> None:
        """Forget evaluations of later steps: a resumed run takes those steps again, and their rows no longer count."""
        if self._trainer.accelerator.is_main_process and self._done_file.exists():
            self._keep({one for one in self._done() if one <= step})

    def _keep(self, steps: set[int]) -> None:
        write_durably(self._done_file, json.dumps(sorted(steps)).encode())

    def _evaluate_here(self, step: int) -> None:
        """Evaluate, on the main process; the others wait."""
        trainer = self._trainer
        if trainer.accelerator.is_main_process and not self._stop.requested:
            with trainer.clock("evaluation"):
                self._evaluate(step)
        trainer.accelerator.wait_for_everyone()

    def _evaluate(self, step: int) -> None:
        try:
            summary, *sampled = [
                self._trainer.patience(partial(self._asked, step, *asked), "the evaluation")
                for asked in self._decodings(step)
            ]
        except _Interrupted:
            return
        self.summaries.append((step, summary))
        self._keep({*self._done(), step})
        line = f"step {step}: pass@1 {summary.k}/{summary.n}"
        for beside in sampled:
            line += f", mean@{beside.n_samples} {percent(beside.pass_at_k(1)[0])}"
        self._say(line)

    def _decodings(self, step: int) -> Iterator[tuple[str, Decoding]]:
        """The greedy one, and that of training, whose mean over several completions stands beside it."""
        trainer = self._trainer
        yield f"step-{step}", Decoding(max_new_tokens=trainer.max_completion_length)
        if trainer.config.eval_samples == 0:
            return
        decoding = Decoding(
            max_new_tokens=trainer.max_completion_length,
            temperature=trainer.args.temperature,
            top_p=trainer.args.top_p,
            filters=filters_of(trainer.args),
            n_samples=trainer.config.eval_samples,
            # other numbers at each step: noise that is shared by checkpoints would look like none
            seed=int(trainer.args.seed) + step,
        )
        yield f"step-{step}{BESIDE}", decoding

    def _asked(self, step: int, eval_id: str, decoding: Decoding) -> EvalSummary:
        trainer, bench = self._trainer, self._trainer.config
        self._n_done = 0
        self._n_asked = len(self._problems.problems) * decoding.n_samples
        with trainer.adapter_merged():
            return evaluate(
                self._problems,
                trainer.policy(),
                self._sandbox,
                journal=trainer.journal,
                eval_id=eval_id,
                label=trainer.journal.info.label,
                step=step,
                protocol=self._form.protocol,
                shots=self._form.shots,
                decoding=decoding,
                batch_size=bench.eval_batch,
                timeout_s=bench.timeout_s,
                progress=self._check_stop,
            )

    def _check_stop(self, n_completions: int) -> None:
        self._n_done += n_completions
        if self._trainer.show_ended is not None:
            self._trainer.show_ended(f"{self._n_done} of {self._n_asked}")
        if self._stop.requested:
            raise _Interrupted
