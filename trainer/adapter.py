"""TRL's GRPOTrainer with the project's grading, teacher and loss hooked in; holds no mathematics.

GRPO, SDPO and hybrid runs share it, so that sampling, rewards, logging and hardware paths are the same.
Private hooks of TRL 1.14 that it uses (tests/trainer/test_trl_contract.py fails where one changes):
`_generate_and_score_completions`, `_compute_loss`, `_get_per_token_logps_and_entropies`,
`_tokenize_prompts`, `_forward_redirection`, `_metrics`, `current_gradient_accumulation_steps`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.utils import pad

from analysis.journal import Journal
from analysis.records import Metric
from trainer.config import Algorithm, BenchConfig
from trainer.forward import (
    Rows,
    UnusualHead,
    completion_hidden,
    completion_logits,
    output_head,
)
from trainer.losses.aggregation import all_sequences_mean, token_mean
from trainer.losses.lean import Head, TokenTerms, token_terms
from trainer.rollouts import GradedRollout, RolloutGrader, SampledRollout, rollout_records
from trainer.teacher import EmaTeacher
from trainer.teacher_prompt import TeacherPrompt, coverage, teacher_prompts

logger = logging.getLogger(__name__)


class BenchTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPO, SDPO or their mixture on graded groups of completions."""

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - passed on to TRL
        algorithm: Algorithm,
        config: BenchConfig,
        grader: RolloutGrader,
        journal: Journal,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Build TRL's trainer with `grader`'s reward functions, then copy the student as the teacher."""
        self.algorithm = algorithm
        self.config = config
        self.grader = grader
        self.journal = journal
        super().__init__(*args, reward_funcs=[grader.correctness, grader.format_score], **kwargs)
        self.distillation = config.distillation(temperature=self.args.temperature)
        self.teacher = EmaTeacher(self.model, rate=config.ema_rate) if algorithm != "grpo" else None
        self._head = self._output_head()
        self._terms: tuple[TokenTerms, Tensor] | None = None

    def _output_head(self) -> Head | None:
        """The head for the lean loss; None, said once, where the model needs the plain one."""
        try:
            return output_head(self.model)
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

    # sampling and grading

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Sample, grade and record a rollout batch; add what the teacher reads of each row."""
        # Every batch is a function of (weights, seed, step): two algorithms with one seed start alike,
        # and a resumed run samples what the interrupted one would have.
        torch.manual_seed(self._rollout_seed())
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)

        graded = _gathered(self.grader.graded)
        teachers = self._teacher_prompts([x["prompt"] for x in inputs], graded)
        local = _local_rows(teachers, len(inputs), self.accelerator.process_index)
        texts = self._add_teacher_tokens(batch, [x["prompt"] for x in inputs], local)

        self._record(batch, local, texts)
        return batch

    def _rollout_seed(self) -> int:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        step = int(self.state.global_step)
        return int(self.args.seed) + 7_919 * (step * int(world) + int(rank) + 1)

    def _teacher_prompts(
        self, prompts: Sequence[list[dict[str, str]]], graded: Sequence[GradedRollout]
    ) -> list[TeacherPrompt | None]:
        """The teacher prompts of all rows of all processes; none where no teacher is trained against."""
        if self.teacher is None:
            return [None] * len(graded)
        rules = self.config.teacher_rules()
        all_prompts = _gathered(list(prompts))
        groups = []
        for start in range(0, len(graded), self.num_generations):
            attempts = [
                rollout.attempt(success_threshold=self.config.success_threshold)
                for rollout in graded[start : start + self.num_generations]
            ]
            answers = teacher_prompts(
                all_prompts[start],
                attempts,
                rules,
                n_tokens=lambda messages: len(self._tokenize_prompts([list(messages)])[0][0]),
                max_tokens=self._max_teacher_prompt_tokens(),
            )
            groups.append((attempts, answers))
        for name, value in vars(coverage(groups, rules)).items():
            self._metrics["train"][f"teacher/{name}"].append(value)
        return [answer for _, answers in groups for answer in answers]

    def _max_teacher_prompt_tokens(self) -> int:
        context = getattr(self.model.config, "max_position_embeddings", None)
        limit = self.config.max_teacher_prompt_tokens
        return limit if context is None else min(limit, context - self.max_completion_length)

    def _add_teacher_tokens(
        self,
        batch: dict[str, Any],
        prompts: Sequence[list[dict[str, str]]],
        teachers: Sequence[TeacherPrompt | None],
    ) -> list[str | None]:
        """Add left-padded teacher prompts and the distillation mask; return the prompts as text."""
        if self.teacher is None:
            return [None] * len(teachers)
        # a row without a teacher keeps its own prompt, and the loss ignores it
        messages = [
            prompt if teacher is None else list(teacher.messages)
            for prompt, teacher in zip(prompts, teachers, strict=True)
        ]
        ids = self._tokenize_prompts(messages)[0]
        device = batch["completion_ids"].device
        batch["teacher_prompt_ids"] = pad(
            [torch.tensor(row) for row in ids],
            padding_value=self._tokenizer.pad_token_id,
            padding_side="left",
        ).to(device)
        batch["teacher_prompt_mask"] = pad(
            [torch.ones(len(row), dtype=torch.long) for row in ids],
            padding_value=0,
            padding_side="left",
        ).to(device)
        batch["distill_mask"] = torch.tensor([t is not None for t in teachers], device=device)
        n_tokens = (batch["completion_mask"] * batch["distill_mask"].unsqueeze(1)).sum()
        # a scalar: TRL hands it to every micro-batch as it is
        batch["n_distill_tokens"] = self.accelerator.gather(n_tokens).sum()
        return [
            None if teacher is None else self._tokenizer.decode(row)
            for teacher, row in zip(teachers, ids, strict=True)
        ]

    def _record(
        self,
        batch: Mapping[str, Tensor],
        teachers: Sequence[TeacherPrompt | None],
        teacher_texts: Sequence[str | None],
    ) -> None:
        """Write the batch's rows of all processes to the journal, durably, before it is trained on."""
        ends = {self._tokenizer.eos_token_id, self._tokenizer.pad_token_id}
        rows = []
        for i, graded in enumerate(self.grader.graded):
            prompt_ids = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()].tolist()
            completion_ids = batch["completion_ids"][i][batch["completion_mask"][i].bool()].tolist()
            rows.append(
                SampledRollout(
                    graded=graded,
                    prompt=self._tokenizer.decode(prompt_ids),
                    n_prompt_tokens=len(prompt_ids),
                    n_completion_tokens=len(completion_ids),
                    truncated=not completion_ids or completion_ids[-1] not in ends,
                    advantage=float(batch["advantages"][i]),
                    teacher=teachers[i],
                    teacher_prompt=teacher_texts[i],
                )
            )
        rows = _gathered(rows)
        if self.accelerator.is_main_process:
            step = int(self.state.global_step) + 1
            for record in rollout_records(rows, step=step, group_size=self.num_generations):
                self.journal.append(record)
            self.journal.commit()

    # the loss

    def compute_loss(
        self,
        model: Any,  # noqa: ANN401
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ANN401
    ) -> Tensor:
        """As TRL's; the lean loss enters the model below a distributed wrapper, which must be told."""
        unwrapped = self.accelerator.unwrap_model(model)
        if self.algorithm != "grpo" and model is not unwrapped:
            loss: Tensor = self._forward_redirection(
                model, unwrapped, self._compute_loss, unwrapped, inputs
            )
            return loss
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return loss

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:  # noqa: ANN401
        """The micro-batch's loss, scaled so that the sum over an optimizer step is the step's mean."""
        if self.algorithm == "grpo":
            policy_loss: Tensor = super()._compute_loss(model, inputs)
            return policy_loss
        mask = inputs["completion_mask"].bool()
        terms = self._token_terms(model, inputs, mask)
        distill_loss = self._distill_loss(terms, inputs, mask)
        if self.algorithm != "hybrid":
            return distill_loss

        self._terms = terms, mask
        try:
            policy_loss = super()._compute_loss(model, inputs)
        finally:
            self._terms = None
        weight = self.config.hybrid_lambda
        return weight * policy_loss + (1.0 - weight) * distill_loss

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,  # noqa: ANN401
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """In a hybrid step, the policy loss reads the forward pass that the distillation has made."""
        if self._terms is not None:
            terms, mask = self._terms
            return _placed(terms.logprobs, mask), _placed(terms.entropy, mask), None
        answer: tuple[Tensor, Tensor | None, Tensor | None] = (
            super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        )
        return answer

    def _token_terms(self, model: Any, inputs: Mapping[str, Tensor], mask: Tensor) -> TokenTerms:  # noqa: ANN401
        """Distillation loss, log-probability and entropy of every completion token, one forward a side."""
        old_logprobs = inputs.get("old_per_token_logps")
        student = self._features(model, rows_of(inputs, "prompt"))
        # A row without a teacher is compared with itself: no value, no gradient, no second forward.
        teacher, taught = student.detach(), inputs["distill_mask"]
        if taught.any():
            teacher = teacher.clone()
            with self._as_teacher(model):
                teacher[taught] = self._features(model, rows_of(inputs, "teacher_prompt", taught))
        return self._terms_of(
            student[mask],
            teacher[mask],
            inputs["completion_ids"][mask],
            None if old_logprobs is None else old_logprobs[mask],
        )

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
                policy_gradient=self.algorithm == "hybrid",
            )

    def _distill_loss(
        self, terms: TokenTerms, inputs: Mapping[str, Tensor], mask: Tensor
    ) -> Tensor:
        distill_mask = mask & inputs["distill_mask"].unsqueeze(1)
        per_token = _placed(terms.distill, mask)
        self._note("distill/per_token", per_token[distill_mask])
        if self.algorithm != "hybrid":  # in a hybrid step TRL notes it
            self._note("entropy", terms.entropy)
        if self.config.aggregation == "reference":
            loss = all_sequences_mean(per_token, distill_mask)
            return loss / int(self.current_gradient_accumulation_steps)
        return token_mean(per_token, distill_mask, n_tokens=self._tokens_of_step(inputs))

    def _features(self, model: Any, rows: Rows) -> Tensor:  # noqa: ANN401
        """Hidden states for the lean loss, or logits where the model's head is unusual."""
        forward = completion_logits if self._head is None else completion_hidden
        with self.accelerator.autocast():
            return forward(model, rows)

    @contextmanager
    def _as_teacher(self, model: Any) -> Iterator[None]:  # noqa: ANN401
        """Teacher's weights, no dropout and so no random numbers, no gradient; all as before afterwards."""
        assert self.teacher is not None  # noqa: S101 - set for every algorithm but grpo
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), self.teacher.weights():
                yield
        finally:
            model.train(was_training)

    def _tokens_of_step(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Distilled tokens of the optimizer step, per process: DDP averages the gradients over processes."""
        steps = float(self.current_gradient_accumulation_steps / self.args.steps_per_generation)
        return inputs["n_distill_tokens"] * (steps / int(self.accelerator.num_processes))

    # what is kept of a step

    def _note(self, name: str, values: Tensor) -> None:
        """Average a per-token value over the micro-batch; a batch without tokens says nothing."""
        if values.numel():
            self._metrics["train"][name].append(values.detach().mean().item())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Hand the metrics to TRL's trackers and the journal."""
        super().log(logs, start_time)
        # what ends a run with train_runtime sums up this process, not a step
        if self.accelerator.is_main_process and "train_runtime" not in logs:
            for name, value in logs.items():
                if isinstance(value, int | float):
                    self.journal.append(
                        Metric(step=int(self.state.global_step), name=name, value=float(value))
                    )
            self.journal.commit()


def rows_of(inputs: Mapping[str, Tensor], prompt: str, chosen: Tensor | None = None) -> Rows:
    """The micro-batch's rows with one of the two prompts; all of them, or the chosen ones."""
    names = (f"{prompt}_ids", f"{prompt}_mask", "completion_ids", "completion_mask")
    return Rows(*(inputs[name] if chosen is None else inputs[name][chosen] for name in names))


def _placed(values: Tensor, mask: Tensor) -> Tensor:
    """Per-token values back at their places in (row, token); 0 outside the mask."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)


def _gathered(rows: list[Any]) -> list[Any]:
    """The rows of all processes, in the order of the processes."""
    return list(gather_object(rows))


def _local_rows(rows: Sequence[Any], n_rows: int, process_index: int) -> list[Any]:
    return list(rows[process_index * n_rows : (process_index + 1) * n_rows])
