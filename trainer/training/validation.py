"""Evaluates the policy as it stands, before training, every N steps and at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from transformers import TrainerCallback, TrainerState

from analysis.journal.durable import write_durably
from analysis.words import percent
from evaluator.evaluation.evaluate import EvalSummary, evaluate
from evaluator.problems.mbpp import ProblemSet
from evaluator.results.stored import BESIDE
from evaluator.sampling.model import Decoding
from sandbox.client import Sandbox
from trainer.endings.faults import Patience
from trainer.endings.stop import StopRequest
from trainer.options.prompting import Asking
from trainer.rollouts.settings import filters_of
from trainer.step.loss_trainer import BenchTrainer

DONE = "evaluated.json"
"""In the run's folder: the steps whose evaluation is whole."""


class _Interrupted(Exception):
    """Somebody asked the run to stop in the midst of an evaluation."""


class Evaluator:
    """Evaluates a trainer's policy into the run's journal; each step once, also over a resume."""

    def __init__(
        self,
        trainer: BenchTrainer,
        problems: ProblemSet,
        sandbox: Sandbox,
        *,
        form: Asking,
        say: Callable[[str], None],
        patience: Patience,
        stop: StopRequest,
    ) -> None:
        """Ask `problems` in this form; a fault is waited out, a stop leaves the evaluation to the resumed run."""
        self.summaries: list[tuple[int, EvalSummary]] = []
        """(optimizer step, summary), in order of the steps."""
        self._trainer, self._problems, self._sandbox = trainer, problems, sandbox
        self._form = form
        self._say, self._patience, self._stop = say, patience, stop
        self._n_done, self._n_asked = 0, 0
        self._done_file = Path(trainer.journal.run_dir) / DONE

    def done(self, step: int) -> bool:
        """Whether the evaluation of `step` is whole."""
        return self._done_file.exists() and step in json.loads(self._done_file.read_text())

    def forget_after(self, step: int) -> None:
        """Forget evaluations of later steps: a resumed run takes those steps again, and their rows no longer count."""
        if self._trainer.accelerator.is_main_process and self._done_file.exists():
            done = json.loads(self._done_file.read_text())
            self._keep([one for one in done if one <= step])

    def _keep(self, steps: list[int]) -> None:
        write_durably(self._done_file, json.dumps(sorted(steps)).encode())

    def __call__(self, step: int) -> None:
        """Evaluate, on the main process; the others wait."""
        trainer = self._trainer
        if trainer.accelerator.is_main_process and not self._stop.requested:
            with trainer.clock("evaluation"):
                self._evaluate(step)
        trainer.accelerator.wait_for_everyone()

    def _evaluate(self, step: int) -> None:
        try:
            summary = self._patience(lambda: self._summary(step), "the evaluation")
            sampled = self._patience(lambda: self._sampled(step), "the evaluation")
        except _Interrupted:
            return
        self.summaries.append((step, summary))
        steps = json.loads(self._done_file.read_text()) if self._done_file.exists() else []
        self._keep([*{*steps, step}])
        line = f"step {step}: pass@1 {summary.k}/{summary.n}"
        if sampled is not None:
            line += f", mean@{sampled.n_samples} {percent(sampled.pass_at_k(1)[0])}"
        self._say(line)

    def _summary(self, step: int) -> EvalSummary:
        decoding = Decoding(max_new_tokens=self._trainer.max_completion_length)
        return self._asked(step, decoding, eval_id=f"step-{step}")

    def _sampled(self, step: int) -> EvalSummary | None:
        """What the policy does as it is sampled in training: the mean over several completions."""
        trainer = self._trainer
        if trainer.config.eval_samples == 0:
            return None
        decoding = Decoding(
            max_new_tokens=trainer.max_completion_length,
            temperature=trainer.args.temperature,
            top_p=trainer.args.top_p,
            filters=filters_of(trainer.args),
            n_samples=trainer.config.eval_samples,
            # other numbers at each step: noise that is shared by checkpoints would look like none
            seed=int(trainer.args.seed) + step,
        )
        return self._asked(step, decoding, eval_id=f"step-{step}{BESIDE}")

    def _asked(self, step: int, decoding: Decoding, *, eval_id: str) -> EvalSummary:
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


class Evaluation(TrainerCallback):
    """Evaluates every N optimizer steps, before training, and once at the end."""

    def __init__(self, evaluator: Evaluator, *, every: int) -> None:
        """Evaluate at step 0, every `every` steps and after the last; `every` 0 is never."""
        self._evaluator = evaluator
        self._every = every

    def on_train_begin(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        """The point that a curve starts from, and what a stop left undone."""
        self.catch_up(state.global_step, state.max_steps)

    def catch_up(self, step: int, max_steps: int) -> None:
        """Evaluate a step that is due and has no whole evaluation, as a run begins or goes on after it."""
        self._evaluator.forget_after(step)
        if self._due(step, max_steps) and not self._evaluator.done(step):
            self._evaluator(step)

    def on_step_end(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        """Evaluate where the step asks for it."""
        if self._due(state.global_step, state.max_steps):
            self._evaluator(state.global_step)

    def _due(self, step: int, max_steps: int) -> bool:
        return bool(self._every) and (step % self._every == 0 or step == max_steps)
