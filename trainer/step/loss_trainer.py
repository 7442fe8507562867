"""Computes the loss of every algorithm within TRL's GRPOTrainer; the formulas are in `trainer.losses`.

All share the trainer, so that sampling, rewards, logging and hardware paths are the same. Private hooks
of TRL 1.14 that it uses besides those of `rollout_trainer` (tests/trainer/step/test_trl_contract.py fails where one
changes): `_compute_loss`, `_ForwardRedirection`, `current_gradient_accumulation_steps`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from trl.models.utils import _ForwardRedirection

from evaluator.models.modes import evaluation_mode
from evaluator.models.objects import CausalModel
from trainer.losses.advantages import mix_at, routed_advantages, scaled_advantages
from trainer.losses.aggregation import (
    all_sequences_mean,
    imitation_loss,
    sequence_mean,
    sequence_sum,
    sequence_sum_norm,
    token_mean,
)
from trainer.losses.chunked import Head, TokenTerms, token_terms
from trainer.losses.importance import at_the_clip, mismatch_weight
from trainer.rollouts.token_stats import is_kept, token_records
from trainer.step.forward import (
    GroupedRows,
    Rows,
    UnusualHead,
    completion_hidden,
    completion_logits,
    output_head,
)
from trainer.step.rollout_trainer import LogpsAndEntropies, RolloutTrainer
from trainer.teacher.weights import Teacher

logger = logging.getLogger(__name__)

DISTILLED_ONLY = ("sdpo", "audit")
"""Algorithms without a policy loss beside the distillation."""

_MEANS = {
    "sequence": ("entropy", "kl"),
    "token": (
        *("entropy", "kl", "cispo_clip_ratio"),
        *(f"clip_ratio/{n}_mean" for n in ("low", "high", "region")),
    ),
}
"""What TRL notes of a micro-batch as a mean over tokens, by the level of its ratios."""


class BenchTrainer(RolloutTrainer):
    """GRPO, SDPO, a mixture of both, or a control, on graded groups of completions."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.distillation = self.config.distillation(temperature=self.args.temperature)
        self._head = self._output_head()
        self._terms: tuple[TokenTerms, Tensor] | None = None
        self._redirected = _ForwardRedirection()

    def _output_head(self) -> Head | None:
        """The head for the lean loss; None, said once, where the model needs the plain one."""
        try:
            head = output_head(self.model)
            if self.teacher is not None and self.teacher.mixes_logits and head.weight.requires_grad:
                raise UnusualHead(
                    "a mixed teacher must share the student's head, got a trained head"
                )
            return head
        except UnusualHead as problem:
            if self.algorithm != "grpo":
                logger.warning("%s; the loss holds the logits of a whole micro-batch", problem)
            return None

    def _teacher_head(self) -> Head | None:
        if self._head is None or self.teacher is None:
            return None
        weight, bias = self._head
        return Head(
            self.teacher.value_of(weight), None if bias is None else self.teacher.value_of(bias)
        )

    def compute_loss(
        self,
        model: CausalModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ANN401
    ) -> Tensor:
        """As TRL's; the lean loss enters the model below a distributed wrapper, which must be told."""
        unwrapped = self.accelerator.unwrap_model(model)
        if self.algorithm != "grpo" and model is not unwrapped:
            loss: Tensor = self._redirected(model, unwrapped, self._compute_loss, unwrapped, inputs)
            return loss
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return loss

    def _compute_loss(self, model: CausalModel, inputs: dict[str, Any]) -> Tensor:
        """The micro-batch's loss, scaled so that the sum over an optimizer step is the step's mean."""
        if self.algorithm == "grpo":
            return self._trl_loss(model, inputs)
        mask = inputs["completion_mask"].bool()
        if self.algorithm == "sft":
            return self._imitation_loss(model, inputs, mask)
        terms = self._token_terms(model, inputs, mask)
        distill_loss = self._distill_loss(terms, inputs, mask)
        if self.algorithm in DISTILLED_ONLY:
            return distill_loss
        policy_loss = self._policy_loss(model, inputs, terms, mask)
        match self.algorithm:
            case "routed":
                return policy_loss + distill_loss
            case "rlsd":
                return policy_loss
            case "anchored":
                return policy_loss + self.config.anchor_weight * distill_loss
        weight = self.config.hybrid_lambda
        return weight * policy_loss + (1.0 - weight) * distill_loss

    def _policy_loss(
        self, model: CausalModel, inputs: Mapping[str, Tensor], terms: TokenTerms, mask: Tensor
    ) -> Tensor:
        """TRL's policy loss on the forward pass that the distillation has made."""
        advantages = inputs["advantages"]
        if self.algorithm == "routed":
            advantages = routed_advantages(advantages, inputs["distill_mask"])
        elif self.algorithm == "rlsd":
            advantages = scaled_advantages(
                advantages,
                _placed(terms.logprobs, mask),
                _placed(terms.teacher_logprobs, mask),
                clip=self.config.advantage_clip,
                mix=mix_at(
                    int(self.state.global_step),
                    mix=self.config.advantage_mix,
                    n_steps=self.config.advantage_mix_steps,
                ),
            )
        self._terms = terms, mask
        try:
            loss = self._trl_loss(model, {**inputs, "advantages": advantages})
        finally:
            self._terms = None
        self.note_loss("policy/loss", loss)
        return loss

    def _trl_loss(self, model: CausalModel, inputs: dict[str, Any]) -> Tensor:
        """TRL's policy loss, with its means over a micro-batch's tokens as parts of the mean over the step's."""
        loss: Tensor = super()._compute_loss(model, inputs)
        n_tokens = self.accelerator.gather(inputs["completion_mask"].sum()).sum()
        share = float(n_tokens / inputs["n_tokens"].clamp_min(1))
        for name in _MEANS[self.importance_sampling_level]:
            if values := self._metrics["train"].get(name):
                values[-1] *= share * int(self.current_gradient_accumulation_steps)
        return loss

    def _imitation_loss(
        self, model: CausalModel, inputs: Mapping[str, Tensor], mask: Tensor
    ) -> Tensor:
        student = self._features(model, _grouped(inputs, "prompt"))[mask]
        with self.accelerator.autocast():
            ids = inputs["completion_ids"][mask]
            terms = token_terms(student, None, ids, head=self._head, spec=self.distillation)
        self.note("entropy", terms.entropy, n_of_step=inputs["n_tokens"])
        passing = mask & inputs["passing"].unsqueeze(1)
        return imitation_loss(
            _placed(terms.logprobs, mask),
            passing,
            n_tokens=self._per_process(inputs["n_passing_tokens"]),
        )

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> LogpsAndEntropies:
        """Beside a distillation, the policy loss reads the forward pass that the distillation has made."""
        if self._terms is not None:
            terms, mask = self._terms
            return _placed(terms.logprobs, mask), _placed(terms.entropy, mask), None
        return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    def _token_terms(
        self, model: CausalModel, inputs: Mapping[str, Tensor], mask: Tensor
    ) -> TokenTerms:
        """Distillation loss, log-probability and entropy of every completion token, one forward a side."""
        old_logprobs = inputs.get("old_per_token_logps")
        student = self._features(model, _grouped(inputs, "prompt"))
        # A row without a teacher is compared with itself: no value, no gradient, no second forward.
        teacher, taught = student.detach(), inputs["distill_mask"]
        if taught.any():
            teacher = teacher.clone()
            rows = _grouped(inputs, "teacher_prompt", taught)
            with self.as_teacher(model) as its:
                teacher[taught] = its.features(lambda: self._features(model, rows))
        terms = self._terms_of(
            student[mask],
            teacher[mask],
            inputs["completion_ids"][mask],
            None if old_logprobs is None else old_logprobs[mask],
        )
        return self._corrected(terms, inputs, mask)

    def _corrected(
        self, terms: TokenTerms, inputs: Mapping[str, Tensor], mask: Tensor
    ) -> TokenTerms:
        """Weights for the difference between the sampler and this forward pass; shares of them that were clipped."""
        distilled = inputs["distill_mask"].unsqueeze(1).expand_as(mask)[mask]
        n_distilled = inputs["n_distill_tokens"]
        trainer = terms.logprobs.detach()
        old = inputs.get("old_per_token_logps")
        if old is not None and (clip := self.distillation.importance_clip) is not None:
            clipped = at_the_clip(trainer[distilled], old[mask][distilled], clip=clip)
            self.note("distill/importance_clipped_fraction", clipped, n_of_step=n_distilled)
        sampler, clip = inputs.get("sampling_per_token_logps"), self.config.mismatch_clip
        if sampler is None or clip is None:
            return terms
        # the policy that sampled, as this side computes it
        trainer = trainer if old is None else old[mask]
        clipped = at_the_clip(trainer[distilled], sampler[mask][distilled], clip=clip)
        self.note("distill/mismatch_clipped_fraction", clipped, n_of_step=n_distilled)
        weights = mismatch_weight(trainer, sampler[mask], clip=clip)
        return terms._replace(distill=terms.distill * weights)

    def _terms_of(
        self, student: Tensor, teacher: Tensor, ids: Tensor, old_logprobs: Tensor | None
    ) -> TokenTerms:
        with self.accelerator.autocast():
            return token_terms(
                student,
                teacher,
                ids,
                head=self._head,
                teacher_head=self._teacher_head(),
                spec=self.distillation,
                old_logprobs=old_logprobs,
                policy_gradient=self.algorithm not in DISTILLED_ONLY,
            )

    def _distill_loss(
        self, terms: TokenTerms, inputs: Mapping[str, Tensor], mask: Tensor
    ) -> Tensor:
        distill_mask = mask & inputs["distill_mask"].unsqueeze(1)
        per_token = _placed(terms.distill, mask)
        n_distilled = inputs["n_distill_tokens"]
        self.note("distill/per_token", per_token[distill_mask], n_of_step=n_distilled)
        log_ratio = terms.logprobs.detach() - terms.teacher_logprobs
        self.note("distill/kl_per_token", log_ratio[distill_mask[mask]], n_of_step=n_distilled)
        self._keep_tokens(terms, inputs, mask)
        per_token = per_token * inputs["problem_weight"].unsqueeze(1)
        if self.algorithm in DISTILLED_ONLY:  # else TRL notes it
            self.note("entropy", terms.entropy, n_of_step=inputs["n_tokens"])
        loss = self._aggregated(per_token, distill_mask, inputs)
        self.note_loss("distill/loss", loss)
        return loss

    def _aggregated(self, per_token: Tensor, mask: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The micro-batch's part of the step's loss: the parts of a step add up to its aggregate."""
        n_tokens, n_rows = (
            self._per_process(inputs[name]) for name in ("n_distill_tokens", "n_distill_rows")
        )
        match self.config.aggregation:
            case "token_mean":
                if self.algorithm == "routed":  # one denominator for both terms, as TRL counts it
                    a_step = (
                        self.current_gradient_accumulation_steps / self.args.steps_per_generation
                    )
                    n_tokens = self._per_process(inputs["num_items_in_batch"]) * float(a_step)
                return token_mean(per_token, mask, n_tokens=n_tokens)
            case "sequence_mean":
                return sequence_mean(per_token, mask, n_rows=n_rows)
            case "sequence_sum":
                return sequence_sum(per_token, mask, n_rows=n_rows)
            case "sequence_sum_norm":
                n_padded = self.max_completion_length / int(self.accelerator.num_processes)
                return sequence_sum_norm(per_token, mask, n_padded=n_padded)
            case _:
                loss = all_sequences_mean(per_token, mask)
                return loss / int(self.current_gradient_accumulation_steps)

    def _keep_tokens(self, terms: TokenTerms, inputs: Mapping[str, Tensor], mask: Tensor) -> None:
        """Journal the tokens of the chosen completions where they are first used; durable with the metrics."""
        step, places = int(inputs["sampled_in_step"]), inputs["token_stats_place"]
        is_first_use = self._step % self.micro_batches_a_rollout < self.args.steps_per_generation
        kept = is_first_use and is_kept(step, every=self.config.token_stats_every)
        if not kept or not self.accelerator.is_main_process or not (places >= 0).any():
            return
        decode = self._tokenizer.decode
        tokens = [[decode([id]) for id in row] for row in inputs["completion_ids"].tolist()]
        for record in token_records(
            places,
            mask,
            tokens,
            student_logprobs=_placed(terms.logprobs.detach(), mask),
            teacher_logprobs=_placed(terms.teacher_logprobs, mask),
            divergence=_placed(terms.distill.detach(), mask),
            step=step,
            group_size=self.num_generations,
        ):
            self.journal.append(record)

    def note(self, name: str, values: Tensor, *, n_of_step: Tensor) -> None:
        """Note a value of some tokens, of which the step has `n_of_step`; a step that has none says nothing.

        Each micro-batch adds its part, so that TRL's mean over micro-batches is the mean over the step's tokens.
        """
        if n_of_step > 0:
            total = self.accelerator.gather(values.detach().float().sum()).sum()
            self._note_part(name, total.item() / n_of_step.item())

    def note_loss(self, name: str, loss: Tensor) -> None:
        """Note a micro-batch's part of the step's loss; that of the step is the mean over the processes."""
        self._note_part(name, self.accelerator.gather(loss.detach().float()).mean().item())

    def _note_part(self, name: str, part: float) -> None:
        n_parts = int(self.current_gradient_accumulation_steps)
        self._metrics["train"][name].append(part * n_parts)

    def _features(self, model: CausalModel, rows: Rows) -> Tensor:
        """Hidden states for the lean loss, or logits where the model's head is unusual."""
        forward = completion_logits if self._head is None else completion_hidden
        with self.accelerator.autocast():
            return forward(model, rows)

    @contextmanager
    def as_teacher(self, model: CausalModel) -> Iterator[Teacher]:
        """No dropout and so no random numbers, no gradient; mode and weights as before afterwards."""
        assert self.teacher is not None  # noqa: S101 - set for every algorithm but grpo
        with evaluation_mode(model), torch.no_grad(), self.clock("teacher"):
            yield self.teacher

    def _per_process(self, count: Tensor) -> Tensor:
        """A count over the step and all processes as the loss divides by it: DDP averages their gradients."""
        return count / int(self.accelerator.num_processes)


def rows_of(inputs: Mapping[str, Tensor], prompt: str, chosen: Tensor | None = None) -> Rows:
    """The micro-batch's rows with one of the two prompts; all of them, or the chosen ones."""
    names = (f"{prompt}_ids", f"{prompt}_mask", "completion_ids", "completion_mask")
    return Rows(*(inputs[name] if chosen is None else inputs[name][chosen] for name in names))


def _grouped(inputs: Mapping[str, Tensor], prompt: str, chosen: Tensor | None = None) -> Rows:
    """As `rows_of`, with the groups that let a prompt be computed once."""
    rows, groups = rows_of(inputs, prompt, chosen), inputs.get("group")
    if groups is None:
        return rows
    return GroupedRows.of(rows, groups if chosen is None else groups[chosen.to(groups.device)])


def _placed(values: Tensor, mask: Tensor) -> Tensor:
    """Per-token values back at their places in (row, token); 0 outside the mask."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)
