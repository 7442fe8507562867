"""The SDPO trainer with its auditor looking on; trains exactly as without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import TrainerCallback, TrainerState

from evaluator.models.objects import CausalModel
from trainer.audit.checks import Auditor, TokenBatch
from trainer.losses.chunked import CHUNK_TOKENS, Head, TokenTerms
from trainer.options.config import ConfigError
from trainer.rollouts.rollouts import GradedRollout
from trainer.step.forward import completion_logits
from trainer.step.loss_trainer import BenchTrainer, rows_of
from trainer.teacher.prompt import Attempt, TeacherPrompt


class AuditedTrainer(BenchTrainer):
    """Hands every stage's inputs and result to an `Auditor`; needs one process and no dropout."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.auditor = Auditor(
            # the temperature that sampling uses, not the one the loss believes in
            replace(self.distillation, temperature=self.args.temperature),
            self.config.teacher_rules(),
            aggregation=self.config.aggregation,
            padded_length=int(self.args.max_completion_length),
            record=lambda row: self.journal.append(row),
        )
        self._micro_batch = 0
        self._n_micro_batches = 0
        """Of the whole run, counted here and not read from the trainer."""
        self._gradient = torch.zeros(0)
        self._read = torch.zeros(0), torch.zeros(0)
        """Features of student and teacher that the loss has read, (token, feature)."""

    def start_audit(self) -> None:
        """Open the books: the teacher's first weights are the first row."""
        assert self.teacher is not None  # noqa: S101 - audit runs have a teacher
        self.auditor.start_teacher(self.teacher.student(), self.teacher.state())

    def position(self) -> dict[str, Any]:
        """As the trainer's, with what was checked so far."""
        audit = {**self.auditor.state(), "n_micro_batches": self._n_micro_batches}
        return {**super().position(), "audit": audit}

    def set_position(self, position: Mapping[str, Any]) -> None:
        """As the trainer's, with what was checked so far."""
        super().set_position(position)
        self.take_up_checks(position)

    def take_up_checks(self, position: Mapping[str, Any]) -> None:
        """Go on with the checks alone.

        Raises:
            ConfigError: the checkpoint is of an earlier version, which kept none.
        """
        if "audit" not in position:
            raise ConfigError(
                "the checkpoint of an audit must hold what was checked before it, got one of an earlier version; "
                "start the audit anew"
            )
        self.auditor.take_up(position["audit"])
        self._n_micro_batches = position["audit"]["n_micro_batches"]

    def _add_teacher_tokens(
        self,
        batch: dict[str, Any],
        prompts: Sequence[list[dict[str, str]]],
        teachers: Sequence[TeacherPrompt | None],
    ) -> list[str | None]:
        texts = super()._add_teacher_tokens(batch, prompts, teachers)
        for start in range(0, len(texts), self.num_generations):
            group = slice(start, start + self.num_generations)
            self.auditor.prompts(
                prompts[start],
                [self._attempt(rollout) for rollout in self.grader.graded[group]],
                teachers[group],
                texts[group],
                self._templated,
                reference=self.grader.graded[start].reference or "",
                fits=self._fits,
                step=self._current_step(),
                group=self._n_groups + start // self.num_generations,
            )
        return texts

    def _add_grades(self, batch: dict[str, Any], graded: Sequence[GradedRollout]) -> None:
        super()._add_grades(batch, graded)
        n, success = self.num_generations, [self._attempt(rollout).success for rollout in graded]
        groups = [sum(success[start : start + n]) for start in range(0, len(graded), n)]
        self.auditor.problem_weights(
            batch["problem_weight"].view(-1, n).tolist(),
            groups if self.config.problem_weight == "pass_rate" else None,
            step=self._current_step(),
            first_group=self._n_groups,
        )

    def _attempt(self, rollout: GradedRollout) -> Attempt:
        """The attempt, from the verdicts alone: no reward, no format score."""
        share = rollout.grade.n_passed / max(rollout.grade.n_asserts, 1)
        return Attempt(
            text=rollout.demonstration,
            success=share >= self.config.success_threshold,
            feedback=None if rollout.grade.passed else rollout.feedback,
        )

    def _templated(self, messages: Sequence[Mapping[str, str]]) -> str:
        text: str = self._tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **self.chat_template_kwargs
        )
        return text

    def _fits(self, messages: Sequence[Mapping[str, str]]) -> bool:
        """Whether the teacher may read so much."""
        ids = self._tokenizer(self._templated(messages), add_special_tokens=False)["input_ids"]
        return len(ids) <= self._max_teacher_prompt_tokens()

    def _terms_of(
        self, student: Tensor, teacher: Tensor, ids: Tensor, old_logprobs: Tensor | None
    ) -> TokenTerms:
        # the function that trains, once more on a leaf of its own, for the gradient it passes back
        leaf = student.detach().requires_grad_()
        again = super()._terms_of(leaf, teacher, ids, old_logprobs)
        (self._gradient,) = torch.autograd.grad(again.distill.sum(), leaf)
        self._read = student.detach(), teacher.detach()
        return super()._terms_of(student, teacher, ids, old_logprobs)

    def _token_terms(
        self, model: CausalModel, inputs: Mapping[str, Tensor], mask: Tensor
    ) -> TokenTerms:
        terms = super()._token_terms(model, inputs, mask)
        distilled = mask & inputs["distill_mask"].unsqueeze(1)
        chosen = distilled[mask]  # of the terms' tokens, those that are distilled
        old_logprobs = inputs.get("old_per_token_logps")
        with torch.no_grad(), self.accelerator.autocast():
            student_logits = completion_logits(model, rows_of(inputs, "prompt"))[distilled]
        teacher_logits = self._teacher_logits(model, inputs, distilled)
        batch = TokenBatch(
            student_logits=_through(self._head, self._read[0])[chosen],
            teacher_logits=_through(self._teacher_head(), self._read[1])[chosen],
            plain_student_logits=student_logits,
            plain_teacher_logits=teacher_logits,
            ids=inputs["completion_ids"][distilled],
            old_logprobs=None if old_logprobs is None else old_logprobs[distilled],
            head_weight=None if self._head is None else self._head.weight.detach(),
        )
        self.auditor.tokens(
            batch,
            terms.distill[chosen],
            terms.logprobs[chosen],
            self._gradient[chosen],
            step=self._current_step(),
            micro_batch=self._micro_batch,
        )
        return terms

    def _teacher_logits(
        self, model: CausalModel, inputs: Mapping[str, Tensor], distilled: Tensor
    ) -> Tensor:
        """The teacher's raw logits, mixed as the rule says and not as hidden states."""
        rows = rows_of(inputs, "teacher_prompt")
        with self.as_teacher(model) as teacher, self.accelerator.autocast():
            with teacher.weights():
                own = completion_logits(model, rows)[distilled]
            if self.config.teacher != "trust_region":
                return own
            share = self.config.trust_region_rate
            student = completion_logits(model, rows)[distilled]
        return (1.0 - share) * own.double() + share * student.double()

    def _distill_loss(
        self, terms: TokenTerms, inputs: Mapping[str, Tensor], mask: Tensor
    ) -> Tensor:
        loss = super()._distill_loss(terms, inputs, mask)
        distilled = mask & inputs["distill_mask"].unsqueeze(1)
        weights = inputs["problem_weight"].unsqueeze(1).expand_as(mask)[distilled]
        self.auditor.micro_batch_loss(
            terms.distill[distilled[mask]] * weights, distilled, loss.item()
        )
        self._micro_batch += 1
        return loss

    def end_step(self, step: int) -> None:
        """Close the books of an optimizer step; its teacher has been updated."""
        assert self.teacher is not None  # noqa: S101
        self.auditor.end_step(step=step)
        before, after = self._n_micro_batches, self._n_micro_batches + self._micro_batch
        a_rollout = int(self.args.steps_per_generation) * int(self.args.num_iterations)
        moved = after // a_rollout > before // a_rollout or self.config.teacher == "live"
        self.auditor.update_teacher(
            self.teacher.student(),
            self.teacher.state(),
            rate=self._update_rate() if moved else 0.0,
            step=step,
        )
        self._n_micro_batches, self._micro_batch = after, 0

    def _update_rate(self) -> float:
        """The share of the student that the kind of teacher takes over in each update."""
        return {"ema": self.config.ema_rate, "live": 1.0}.get(self.config.teacher, 0.0)


def _through(head: Head | None, features: Tensor) -> Tensor:
    """Logits of the features, in chunks as the loss makes them; features that are logits stay."""
    if head is None:
        return features
    with torch.no_grad():
        return torch.cat([linear(part, *head) for part in torch.split(features, CHUNK_TOKENS)])


class EndOfStep(TrainerCallback):
    """Tells the audited trainer that a run begins and that a step is over; goes after the teacher's update."""

    def __init__(self, trainer: AuditedTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        """Begin, but where a run goes on."""
        if state.global_step == 0:
            self._trainer.start_audit()

    def on_step_end(self, args: object, state: TrainerState, *_: object, **__: object) -> None:
        """Close the step."""
        self._trainer.end_step(int(state.global_step))
