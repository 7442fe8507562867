"""TRL's GRPOTrainer with the project's sampling, grading, records and clock; the loss is in `adapter`.

Private hooks of TRL 1.14 that it uses (tests/trainer/test_trl_contract.py fails where one changes):
`_generate_and_score_completions`, `_generate_single_turn`, `_calculate_rewards`, `_prepare_inputs`,
`_tokenize_prompts`, `_get_per_token_logps_and_entropies`, `_save_checkpoint`, `_metrics`.
"""

from __future__ import annotations

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
from evaluator.context_length import context_length
from evaluator.four_bit import is_four_bit
from trainer.callbacks import NonFinite
from trainer.config import Algorithm, BenchConfig
from trainer.faults import Patience
from trainer.metrics import group_metrics, peak_memory_bytes
from trainer.rollouts import GradedRollout, RolloutGrader, SampledRollout, rollout_records
from trainer.teacher import Teacher, make_teacher
from trainer.teacher_prompt import TeacherPrompt, coverage, teacher_prompts
from trainer.timing import PhaseClock
from trainer.token_stats import chosen_rows


class RolloutTrainer(GRPOTrainer):  # type: ignore[misc]
    """Samples, grades and records groups of completions, with what the teacher reads of each."""

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - passed on to TRL
        algorithm: Algorithm,
        config: BenchConfig,
        grader: RolloutGrader,
        journal: Journal,
        patience: Patience,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Build TRL's trainer with `grader`'s reward functions, then the teacher from the student."""
        self.algorithm = algorithm
        self.config = config
        self.grader = grader
        self.journal = journal
        self.patience = patience
        cuda = torch.cuda.is_available()
        self.clock = PhaseClock(synchronize=torch.cuda.synchronize if cuda else lambda: None)
        with _not_called_quantised(args[0]):
            super().__init__(
                *args, reward_funcs=[grader.correctness, grader.format_score], **kwargs
            )
        keep_float32(self.model)
        self.teacher: Teacher | None = None
        if algorithm != "grpo":
            self.teacher = make_teacher(
                self.model,
                config.teacher,  # type: ignore[arg-type]  # checked by BenchConfig
                ema_rate=config.ema_rate,
                trust_region_rate=config.trust_region_rate,
            )

    # sampling and grading

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Sample, grade and record a rollout batch; add what the teacher reads of each row."""
        # Every batch is a function of (weights, seed, step): two algorithms with one seed start alike,
        # and a resumed run samples what the interrupted one would have.
        torch.manual_seed(self._rollout_seed())
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)

        graded = _gathered(self.grader.graded)
        for name, value in group_metrics(graded, group_size=self.num_generations).items():
            self._metrics["train"][name].append(value)
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
        silent = sum(all(answer is None for answer in answers) for _, answers in groups)
        self._metrics["train"]["groups/no_teacher_signal_fraction"].append(silent / len(groups))
        return [answer for _, answers in groups for answer in answers]

    def _max_teacher_prompt_tokens(self) -> int:
        context = context_length(self.model)
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
        batch["token_stats_place"] = chosen_rows(batch["distill_mask"])
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
            self.patience(self.journal.commit, "writing the journal")

    # the clock

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """One micro-batch: what is not sampled, graded or the teacher's in it is the student's pass."""
        with self.clock("student"):
            loss: Tensor = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise NonFinite(
                f"the loss must be finite, got {loss.item()} at step {self.state.global_step + 1}; "
                "the weights are those of the step before"
            )
        return loss

    def _prepare_inputs(self, generation_batch: Any) -> Any:  # noqa: ANN401
        with self.clock("rest"):
            return super()._prepare_inputs(generation_batch)

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        with self.clock("sampling"):
            completion_ids, logprobs = super()._generate_single_turn(*args, **kwargs)
        return self._ended(completion_ids, logprobs)

    def _ended(self, completion_ids: Any, logprobs: Any) -> tuple[Any, Any]:  # noqa: ANN401
        """A completion of no token becomes the end alone: TRL reads each one's last token."""
        end = [self._tokenizer.eos_token_id]
        if logprobs is not None:
            logprobs = [row or [float("nan")] for row in logprobs]
        return [row or end for row in completion_ids], logprobs

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        with self.clock("sandbox"):
            rewards: Tensor = super()._calculate_rewards(*args, **kwargs)
        return rewards

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,  # noqa: ANN401
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        with self.clock("student"):
            answer: tuple[Tensor, Tensor | None, Tensor | None] = (
                super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
            )
        return answer

    def _save_checkpoint(self, model: Any, trial: Any) -> None:  # noqa: ANN401
        with self.clock("checkpoint"):
            save = super()._save_checkpoint
            self.patience(lambda: save(model, trial), "saving the checkpoint")

    # what is said of a step

    def note(self, name: str, values: Tensor) -> None:
        """Average a per-token value over the micro-batch; a batch without tokens says nothing."""
        if values.numel():
            self._metrics["train"][name].append(values.detach().float().mean().item())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Hand the metrics to TRL's trackers and the journal."""
        # what ends a run with train_runtime sums up this process, not a step
        of_a_step = "train_runtime" not in logs
        if not of_a_step and self._metrics["train"]:
            # TRL would add to it the metrics of the steps since it last logged
            self.log({})
        if of_a_step:
            every = max(int(self.args.logging_steps), 1)
            n_steps = int(self.state.global_step) % every or every
            for phase, seconds in self.clock.split().items():
                logs[f"time/{phase}_s"] = seconds / n_steps
            logs["memory/peak_bytes"] = float(peak_memory_bytes())
        super().log(logs, start_time)
        if self.accelerator.is_main_process and of_a_step:
            for name, value in logs.items():
                if isinstance(value, int | float):
                    self.journal.append(
                        Metric(step=int(self.state.global_step), name=name, value=float(value))
                    )
            self.patience(self.journal.commit, "writing the journal")


@contextmanager
def _not_called_quantised(model: Any) -> Iterator[None]:  # noqa: ANN401
    """Hide from TRL's constructor that the base is in 4 bits: it would cast the trained weights to bfloat16.

    In bfloat16 a step of lr 5e-6 is rounded away at most weights: of the entries of lora_A 3.9 % ever
    moved in 200 steps, in float32 all of them.
    """
    four_bit = is_four_bit(model)
    if four_bit:
        model.is_loaded_in_4bit = False
    try:
        yield
    finally:
        if four_bit:
            model.is_loaded_in_4bit = True


def keep_float32(model: Any) -> None:  # noqa: ANN401
    """Have every trained weight in float32: what is smaller loses the steps."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))


def _gathered(rows: list[Any]) -> list[Any]:
    """The rows of all processes, in the order of the processes."""
    return list(gather_object(rows))


def _local_rows(rows: Sequence[Any], n_rows: int, process_index: int) -> list[Any]:
    return list(rows[process_index * n_rows : (process_index + 1) * n_rows])
