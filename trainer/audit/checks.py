"""Checks a training run while it runs: each layer derives a quantity a second time and compares.

    loss         logits that the loss reads against a plain forward pass; from these logits, loss and gradient
                 of each token against `losses.oracle`, which shares nothing with the loss
    temperature  log-probabilities of the sampled tokens from raw logits, in float64
    teacher      the teacher's prompts against the selection rule, re-derived, and templated once
    ema          the teacher's weights against a float64 shadow
    aggregation  the step's loss, summed over its micro-batches, against one float64 mean over the step
    trl          the loss of each token against TRL's own functions

Every comparison is a row of the table `audits`. Deviations are relative to the larger of the quantity and 1
(nat): near a divergence of 0 float32 holds no relative digits. The aggregation is relative to the same loss of the
terms' absolute values.
Tokens whose k-th and next logit differ by less than TIE have no defined top k in float32; they are left out of
the comparison with the oracle, and their share is a row of its own. Run audits in float32.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from analysis.records import Audit
from trainer.audit.layers import Layer, unchecked, with_check
from trainer.audit.second_loss import oracle, pass_rate_oracle
from trainer.audit.teacher_rule import prompt_problem
from trainer.losses.sdpo import Distillation
from trainer.teacher.prompt import Attempt, Message, TeacherPrompt, TeacherRules

LAYERS = ("loss", "temperature", "teacher", "ema", "aggregation", "trl")

LOSS = 1e-6
"""Float32 sums over a vocabulary: rounding is 6e-8 a term."""
SAMPLED_LOSS = 1e-5
"""The sampled form multiplies a difference of log-probabilities by one, which reaches 10."""
GRADIENT = 1e-6
"""Relative to the largest entry of the token's gradient or 1."""
LOGITS = 1e-5
"""Relative to a token's largest logit: two forward passes through some tens of layers in float32."""
LOGPROBS = 1e-5
"""Logits reach 30, where float32 resolves 2e-6."""
AGGREGATION = 1e-6
"""Relative to the loss that absolute terms would give: terms of both signs, as `sampled` has, may cancel."""
TIE = 1e-5
"""Difference of two scaled logits that float32 does not resolve: see LOGPROBS."""
TIES = 0.05
"""Share of the run's tokens that may be left out for that before the audit is no audit."""
FIRST_TIES = 2
"""Tokens that may be left out whatever their share: the first micro-batch may hold six."""
EMA = 1e-6
"""Relative to the largest weight; the shadow is rounded to float32 at each update."""


@dataclass(frozen=True)
class TokenBatch:
    """The distilled tokens of one micro-batch."""

    student_logits: Tensor
    """(token, vocabulary), raw, as the loss reads them: its hidden states through the head."""
    teacher_logits: Tensor
    plain_student_logits: Tensor
    """The same from a plain forward pass of the model."""
    plain_teacher_logits: Tensor
    ids: Tensor
    old_logprobs: Tensor | None
    head_weight: Tensor | None
    """(vocabulary, hidden) where the loss reads hidden states; None where it reads logits."""


class Auditor:
    """Collects the checks of one run, row by row."""

    def __init__(
        self,
        spec: Distillation,
        rules: TeacherRules,
        *,
        aggregation: str,
        padded_length: int,
        record: Callable[[Audit], None],
    ) -> None:
        """Check runs of this loss, of completions up to `padded_length` tokens; hand every row to `record`."""
        self._spec, self._rules, self._aggregation = spec, rules, aggregation
        self._padded_length = padded_length
        self._record = record
        self._found = {name: unchecked(name) for name in LAYERS}
        self._keys: set[tuple[int, str, int]] = set()
        self._shadow: dict[str, Tensor] = {}
        self._step_rows: list[Tensor] = []
        self._step_loss = 0.0
        self._n_tokens = self._n_ties = 0

    def tokens(
        self,
        batch: TokenBatch,
        losses: Tensor,
        logprobs: Tensor,
        gradient: Tensor,
        *,
        step: int,
        micro_batch: int,
    ) -> None:
        """Layers loss, temperature and trl on one micro-batch.

        `gradient` is that of each token's loss with respect to what the loss read: hidden state or logits.
        """
        spec = self._spec
        expected = oracle(
            batch.student_logits,
            batch.teacher_logits,
            batch.ids,
            support=spec.support,
            divergence=spec.divergence,
            alpha=spec.alpha,
            top_k=spec.top_k,
            temperature=spec.temperature,
            importance_clip=spec.importance_clip,
            old_logprobs=batch.old_logprobs,
        )
        expected_gradient = expected.gradient
        if batch.head_weight is not None:
            expected_gradient = expected_gradient @ batch.head_weight.double()
        scaled = batch.plain_student_logits.double() / spec.temperature
        chosen = scaled.gather(-1, batch.ids.long().unsqueeze(-1)).squeeze(-1)
        clear = ~_ties(batch.student_logits.double() / spec.temperature, spec)
        loss_threshold = SAMPLED_LOSS if spec.support == "sampled" else LOSS
        for layer, actual, exact, threshold in (
            ("loss.student_logits", batch.student_logits, batch.plain_student_logits, LOGITS),
            ("loss.teacher_logits", batch.teacher_logits, batch.plain_teacher_logits, LOGITS),
            ("loss.value", losses[clear], expected.loss[clear], loss_threshold),
            ("loss.gradient", gradient[clear], expected_gradient[clear], GRADIENT),
            ("temperature", logprobs, chosen - scaled.logsumexp(-1), LOGPROBS),
            ("trl", losses[clear], _trl_losses(batch, spec, logprobs)[clear], loss_threshold),
        ):
            self._compare(layer, actual, exact, threshold, step=step, micro_batch=micro_batch)
        if len(clear):
            self._n_tokens += len(clear)
            self._n_ties += int((~clear).sum())
            share, allowed = self._n_ties / self._n_tokens, TIES + FIRST_TIES / self._n_tokens
            self._note("loss.ties", share, allowed, step=step, micro_batch=micro_batch)

    def prompts(
        self,
        question: Sequence[Message],
        attempts: Sequence[Attempt],
        prompts: Sequence[TeacherPrompt | None],
        texts: Sequence[str | None],
        template: Callable[[Sequence[Message]], str],
        *,
        reference: str,
        fits: Callable[[Sequence[Message]], bool],
        step: int,
        group: int,
    ) -> None:
        """Layer teacher on one group: who is shown what, and the chat template applied once."""
        wrong = [
            f"member {i}: {problem}"
            for i in range(len(attempts))
            if (
                problem := prompt_problem(
                    *(
                        self._rules,
                        question,
                        attempts,
                        i,
                        prompts[i],
                        texts[i],
                        template,
                        reference,
                    ),
                    fits=fits,
                )
            )
        ]
        detail = "; ".join(wrong) or None
        self._note("teacher", float(len(wrong)), 0.0, step=step, micro_batch=group, detail=detail)

    def problem_weights(
        self,
        weights: Sequence[Sequence[float]],
        n_passing: list[int] | None,
        *,
        step: int,
        first_group: int,
    ) -> None:
        """Layer aggregation: what each member's problem weighs; `n_passing` of each group, None for weight 1."""
        n_members = len(weights[0])
        exact = [1.0] * len(weights)
        if n_passing is not None:
            exact = pass_rate_oracle(n_passing, n_members=n_members)
        delta = max(
            abs(weight - expected)
            for row, expected in zip(weights, exact, strict=True)
            for weight in row
        )
        self._note("aggregation.weight", delta, AGGREGATION, step=step, micro_batch=first_group)

    def start_teacher(
        self, student: Mapping[str, nn.Parameter], teacher: Mapping[str, Tensor]
    ) -> None:
        """Layer ema, step 0: the teacher is a copy of the student."""
        self._shadow = {n: p.detach().double().clone() for n, p in student.items()}
        self._compare_weights(teacher, step=0)

    def update_teacher(
        self,
        student: Mapping[str, nn.Parameter],
        teacher: Mapping[str, Tensor],
        *,
        rate: float,
        step: int,
    ) -> None:
        """Layer ema, after an update: phi = (1 - r) phi + r theta, kept in float64."""
        for name, parameter in student.items():
            moved = rate * parameter.detach().double()
            self._shadow[name] = (1 - rate) * self._shadow[name] + moved
        self._compare_weights(teacher, step=step)

    def micro_batch_loss(self, losses: Tensor, distilled: Tensor, loss: float) -> None:
        """Layer aggregation: the losses of the tokens of `distilled`, (row, token), and their aggregate."""
        rows = distilled.nonzero()[:, 0]
        self._step_rows += [losses[rows == row].detach().double() for row in range(len(distilled))]
        self._step_loss += loss

    def end_step(self, *, step: int) -> None:
        """Layer aggregation: the step's loss, however it was cut into micro-batches."""
        rows = [row for row in self._step_rows if len(row)]
        delta = abs(self._step_loss - self._exact_aggregate(rows))
        scale = self._exact_aggregate([row.abs() for row in rows])
        self._note("aggregation", delta / scale if scale else delta, AGGREGATION, step=step)
        self._step_rows, self._step_loss = [], 0.0

    def _exact_aggregate(self, rows: Sequence[Tensor]) -> float:
        """One float64 aggregate of the losses of the step's rows that have any."""
        sums = [float(row.sum()) for row in rows]
        match self._aggregation:
            case "token_mean":
                return sum(sums) / max(sum(len(row) for row in rows), 1)
            case "sequence_mean":
                return sum(float(row.mean()) for row in rows) / max(len(rows), 1)
            case "sequence_sum":
                return sum(sums) / max(len(rows), 1)
            case "sequence_sum_norm":
                return sum(sums) / self._padded_length
            case _:
                return sum(float(row.mean()) for row in rows) / max(len(self._step_rows), 1)

    def layers(self) -> list[Layer]:
        """One summary a layer, in the order of LAYERS; one that never ran has not passed."""
        return list(self._found.values())

    def state(self) -> dict[str, Any]:
        """What a resumed run goes on from; not copies, and nothing of a step in work."""
        ties = self._n_tokens, self._n_ties
        found = [vars(layer) for layer in self.layers()]
        return {"found": found, "shadow": dict(self._shadow), "ties": ties}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._found = {fields["name"]: Layer(**fields) for fields in state["found"]}
        self._shadow = dict(state["shadow"])
        self._n_tokens, self._n_ties = state["ties"]

    def _compare(
        self,
        layer: str,
        actual: Tensor,
        expected: Tensor,
        threshold: float,
        *,
        step: int,
        micro_batch: int,
    ) -> None:
        if expected.numel() == 0:
            return
        difference = (actual.detach().double() - expected.double()).abs()
        scale = expected.double().abs().amax(dim=-1, keepdim=expected.dim() > 1).clamp_min(1.0)
        delta = float((difference / scale).nan_to_num(nan=torch.inf).max())
        self._note(layer, delta, threshold, step=step, micro_batch=micro_batch)

    def _compare_weights(self, teacher: Mapping[str, Tensor], *, step: int) -> None:
        if set(teacher) != set(self._shadow):
            self._note("ema", float("inf"), EMA, step=step, detail="other parameters")
            return
        scale = max(float(t.abs().max()) for t in self._shadow.values())
        delta = max(float((teacher[n].double() - t).abs().max()) for n, t in self._shadow.items())
        self._note("ema", delta / max(scale, 1e-12), EMA, step=step)

    def _note(
        self,
        layer: str,
        delta: float,
        threshold: float,
        *,
        step: int,
        micro_batch: int = 0,
        detail: str | None = None,
    ) -> None:
        row = Audit(
            step=step,
            layer=layer,
            micro_batch=micro_batch,
            delta=delta,
            threshold=threshold,
            passed=delta <= threshold,
            detail=detail,
        )
        key = step, layer, micro_batch
        if key in self._keys:
            raise RuntimeError(f"every check must have a row of its own, got {key} twice")
        self._keys.add(key)
        name = layer.partition(".")[0]
        self._found[name] = with_check(self._found[name], row)
        self._record(row)


def _ties(scaled: Tensor, spec: Distillation) -> Tensor:
    """Tokens whose top k is not defined in float32."""
    n_vocabulary = scaled.shape[-1]
    if spec.support in ("full", "sampled") or spec.top_k >= n_vocabulary:
        return torch.zeros(len(scaled), dtype=torch.bool, device=scaled.device)
    top = scaled.topk(spec.top_k + 1, dim=-1).values
    return top[:, -2] - top[:, -1] < TIE


def _trl_losses(batch: TokenBatch, spec: Distillation, logprobs: Tensor) -> Tensor:
    """The same losses by TRL's functions in float64; they leave temperature and importance weight to their caller."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.sdpo import loss_utils

    student, teacher = (
        z.double() / spec.temperature for z in (batch.student_logits, batch.teacher_logits)
    )
    alpha = {"forward_kl": 0.0, "reverse_kl": 1.0}.get(spec.divergence, spec.alpha)
    losses: Tensor
    if spec.support == "full":
        losses = loss_utils.compute_full_logit_self_distillation_loss(
            student, teacher, distillation_alpha=alpha
        )
    elif spec.support == "sampled":
        losses = loss_utils.compute_sampled_token_self_distillation_loss(
            student, teacher, batch.ids.long(), distillation_alpha=1.0
        )
    else:
        losses = loss_utils.compute_topk_self_distillation_loss(
            student,
            teacher,
            distillation_topk=min(spec.top_k, student.shape[-1]),
            distillation_alpha=alpha,
            distillation_add_tail=spec.support == "topk_tail",
        )
    if spec.importance_clip is not None and batch.old_logprobs is not None:
        losses = loss_utils.apply_importance_sampling_clipping(
            losses, logprobs, batch.old_logprobs, spec.importance_clip
        )
    return losses
