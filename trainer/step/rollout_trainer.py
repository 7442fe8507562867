"""TRL's GRPOTrainer with the project's sampling, grading, records and clock; the loss is in `loss_trainer`.

Private hooks of TRL 1.14 and transformers 5 that it uses (tests/trainer/step/test_trl_contract.py fails where one
changes): `_generate_and_score_completions`, `_generate_single_turn`, `_calculate_rewards`, `_tokenize_prompts`,
`_get_per_token_logps_and_entropies`, `_full_logits_logps`, `_save_checkpoint`, `_metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analysis.journal.journal import Journal
from analysis.records import Metric
from evaluator.models.context_length import context_length
from evaluator.models.modes import evaluation_mode
from evaluator.models.objects import CausalModel
from evaluator.models.padding import causal_model, undisturbed
from evaluator.models.shared_prompt import prompts_once
from evaluator.sampling.answer_end import before_stop
from evaluator.sampling.decoding import alone, answer_text, end_ids, up_to_end
from evaluator.sampling.model import Policy
from trainer.endings.faults import Patience
from trainer.losses.aggregation import pass_rate_weights
from trainer.options.config import Algorithm, BenchConfig
from trainer.rollouts.full_precision import keep_float32, not_called_quantised
from trainer.rollouts.marks import ends_in_mark, up_to_mark
from trainer.rollouts.merged_adapter import merged_adapter
from trainer.rollouts.metrics import group_metrics, peak_memory_bytes
from trainer.rollouts.rollouts import GradedRollout, RolloutGrader, SampledRollout, rollout_records
from trainer.rollouts.settings import training_settings
from trainer.rollouts.token_stats import chosen_rows
from trainer.rollouts.vllm_server import server_asked
from trainer.step.batch_trainer import BatchTrainer, gathered, local_rows
from trainer.step.callbacks import NonFinite
from trainer.step.common_prefix import padded
from trainer.step.forward import WithPositions
from trainer.step.progress import counted
from trainer.teacher.prompt import TeacherPrompt, coverage, teacher_prompts
from trainer.teacher.weights import Teacher, make_teacher

LogpsAndEntropies = tuple[Tensor, Tensor | None, Tensor | None]
"""Of each completion token; TRL's third part is a loss of a router, or nothing."""


class RolloutTrainer(BatchTrainer):
    """Samples, grades and records groups of completions, with what the teacher reads of each."""

    journal: Journal
    """Where the run's rows go; `begin` sets it."""

    def __init__(
        self,
        *args: Any,
        algorithm: Algorithm,
        config: BenchConfig,
        grader: RolloutGrader,
        patience: Patience,
        marks: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        """Build TRL's trainer with `grader`'s reward functions, then the teacher from the student.

        `marks` end a completion as an end token does.
        """
        self._marks = tuple(marks)
        self.config = config
        self.grader = grader
        self.patience = patience
        self.show_ended: Callable[[str], None] | None = None
        """Is told while completions are sampled how many have ended; see `trainer.step.progress`."""
        with not_called_quantised(args[0]):
            super().__init__(
                *args, algorithm=algorithm, reward_funcs=grader.reward_functions, **kwargs
            )
        keep_float32(self.model)
        # TRL would count a masked completion's tokens as none: it is masked here, after it is recorded
        self.mask_truncated_completions = False
        self._ends = end_ids(self.model, self._tokenizer)
        self.generation_config = training_settings(self.model, self._tokenizer, self.args)
        self.teacher: Teacher | None = None
        if algorithm not in ("grpo", "sft"):
            self.teacher = make_teacher(
                self.model,
                config.teacher,  # type: ignore[arg-type]  # checked by BenchConfig
                ema_rate=config.ema_rate,
                trust_region_rate=config.trust_region_rate,
            )

    def begin(self, journal: Journal) -> None:
        """Write into this run from now on."""
        self.journal = journal
        self.args.output_dir = str(journal.run_dir / "checkpoints")
        Path(self.args.output_dir).mkdir(exist_ok=True)

    def policy(self) -> Policy:
        """What is trained, as evaluations ask it."""
        return Policy(
            self.accelerator.unwrap_model(self.model),
            self.processing_class,
            chat_template_kwargs=self.chat_template_kwargs,
        )

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Sample, grade and record a rollout batch; add what the teacher reads of each row."""
        # Every batch is a function of (weights, seed, its number): two algorithms with one seed start alike,
        # and a resumed run samples what the interrupted one would have.
        torch.manual_seed(self._rollout_seed())
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)

        graded = gathered(self.grader.graded)
        for name, value in group_metrics(graded, group_size=self.num_generations).items():
            self._metrics["train"][name].append(value)
        teachers = self._teacher_prompts([x["prompt"] for x in inputs], graded)
        local = local_rows(teachers, len(inputs), self.accelerator.process_index)
        self._add_grades(batch, graded)
        texts = self._add_teacher_tokens(batch, [x["prompt"] for x in inputs], local)

        self._record(batch, local, texts)
        if self.args.mask_truncated_completions:
            self._mask_truncated(batch)
        self._n_groups += len(graded) // self.num_generations
        return batch

    def _add_grades(self, batch: dict[str, Any], graded: Sequence[GradedRollout]) -> None:
        """Add which rows pass, and how much the problem of each weighs; `graded` are those of all processes."""
        device = batch["completion_ids"].device
        threshold = self.config.success_threshold
        passing = torch.tensor([r.attempt(success_threshold=threshold).success for r in graded])
        weights = torch.ones(len(graded))
        if self.config.problem_weight == "pass_rate":
            of_problems = pass_rate_weights(passing.view(-1, self.num_generations))
            weights = of_problems.repeat_interleave(self.num_generations)
        for name, values in (("passing", passing), ("problem_weight", weights)):
            n_rows, process = len(self.grader.graded), self.accelerator.process_index
            own = local_rows(values.tolist(), n_rows, process)
            batch[name] = torch.tensor(own, dtype=values.dtype, device=device)

    def _teacher_prompts(
        self, prompts: Sequence[list[dict[str, str]]], graded: Sequence[GradedRollout]
    ) -> list[TeacherPrompt | None]:
        """The teacher prompts of all rows of all processes; none where no teacher is trained against."""
        if self.teacher is None:
            return [None] * len(graded)
        rules = replace(self.config.teacher_rules(), failing_only=self.algorithm == "routed")
        all_prompts = gathered(list(prompts))
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
                reference=graded[start].reference,
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
        batch["teacher_prompt_ids"], batch["teacher_prompt_mask"] = padded(
            ids, device, fill=self._tokenizer.pad_token_id
        )
        batch["distill_mask"] = torch.tensor([t is not None for t in teachers], device=device)
        first = self._n_groups * self.num_generations
        batch["token_stats_place"] = chosen_rows(batch["distill_mask"], first=first)
        # a scalar: TRL hands it to every micro-batch as it is
        batch["sampled_in_step"] = torch.tensor(self._current_step())
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
                    truncated=self._is_truncated(completion_ids),
                    advantage=float(batch["advantages"][i]),
                    teacher=teachers[i],
                    teacher_prompt=teacher_texts[i],
                )
            )
        rows = gathered(rows)
        if self.accelerator.is_main_process:
            step = int(self.state.global_step) + 1
            for record in rollout_records(
                rows,
                step=step,
                group_size=self.num_generations,
                first_group=self._n_groups,
                visible_tests=self.config.visible_tests,
            ):
                self.journal.append(record)
            self.patience(self.journal.commit, "writing the journal")

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One micro-batch: what is not sampled, graded or the teacher's in it is the student's pass."""
        with self.clock("student"):
            loss: Tensor = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise NonFinite(
                f"the loss must be finite, got {loss.item()} at step {self.state.global_step + 1}; "
                "the weights are those of the step before"
            )
        return loss

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        """As TRL's, with the texts and the lengths that follow from every end token, not the tokenizer's alone."""
        prompt_ids, ids, tool_mask, _, *rest = super()._generate(prompts)
        texts = [
            before_stop(answer_text(self._tokenizer, up_to_end(row, self._ends)[0]), self._marks)
            for row in ids
        ]
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        self._note_lengths(ids)
        return prompt_ids, ids, tool_mask, completions, *rest

    def _note_lengths(self, completion_ids: Sequence[Sequence[int]]) -> None:
        """Put what TRL noted of completions that ended right."""
        rows = [(len(row), self._is_truncated(row)) for row in completion_ids]
        device = self.accelerator.device
        lengths, cut = self.accelerator.gather(torch.tensor(rows, device=device)).unbind(dim=1)
        ended = lengths[cut == 0].float() if (cut == 0).any() else torch.zeros(1, device=device)
        for name, value in (
            ("clipped_ratio", cut.float().mean()),
            ("mean_terminated_length", ended.mean()),
            ("min_terminated_length", ended.min()),
            ("max_terminated_length", ended.max()),
        ):
            self._metrics["train"][f"completions/{name}"][-1] = float(value)

    def _is_truncated(self, completion_ids: Sequence[int]) -> bool:
        if completion_ids and completion_ids[-1] in self._ends:
            return False
        return not ends_in_mark(self._tokenizer, completion_ids, self._marks)

    def _mask_truncated(self, batch: dict[str, Any]) -> None:
        """Train on nothing of the completions that the length limit ended."""
        mask = batch["completion_mask"]
        rows = zip(batch["completion_ids"], mask.bool(), strict=True)
        has_end = [[not self._is_truncated(ids[kept].tolist())] for ids, kept in rows]
        batch["completion_mask"] = mask * torch.tensor(has_end, device=mask.device)
        batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        with self.clock("sampling"), self.as_sampler():
            completion_ids, logprobs = super()._generate_single_turn(*args, **kwargs)
        return self._ended(completion_ids, logprobs)

    @contextmanager
    def as_sampler(self) -> Iterator[None]:
        """No dropout, and no settings but ours."""
        # vLLM has a model of its own; TRL reads from the mode how many to sample
        with ExitStack() as stack:
            if self.use_vllm:
                stack.enter_context(server_asked())
            else:
                stack.enter_context(counted(causal_model(self.model), self._ends, self.show_ended))
                for way in (evaluation_mode, prompts_once):
                    stack.enter_context(way(self.model))
                stack.enter_context(self.adapter_merged())
            stack.enter_context(alone(self.model, self.generation_config))
            yield

    def adapter_merged(self) -> AbstractContextManager[None]:
        """Within the block the base weights hold the adapter, where both are computed in float32."""
        mixed = self.args.bf16 or self.args.fp16
        return nullcontext() if mixed else merged_adapter(self.model)

    def _ended(self, completion_ids: Any, logprobs: Any) -> tuple[Any, Any]:  # noqa: ANN401
        """Each completion up to its first end token; one of no token is the end alone: TRL reads the last."""
        end = [self._tokenizer.eos_token_id]
        ended = []
        for row in completion_ids:
            before, has_end = up_to_end(row, self._ends)
            kept = up_to_mark(self._tokenizer, row[: len(before) + has_end], self._marks)
            ended.append(kept or end)
        if logprobs is not None:
            logprobs = [
                row[: len(ids)] or [float("nan")] for row, ids in zip(logprobs, ended, strict=True)
            ]
        return ended, logprobs

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        with self.clock("sandbox"):
            rewards: Tensor = super()._calculate_rewards(*args, **kwargs)
        return rewards

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> LogpsAndEntropies:
        # what is computed apart from a loss is as the sampler has it: without dropout
        apart = undisturbed(self.model) if not torch.is_grad_enabled() else nullcontext()
        with self.clock("student"), apart:
            answer: LogpsAndEntropies = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        return answer

    def _full_logits_logps(self, model: CausalModel, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        unwrapped, autocast = self.accelerator.unwrap_model(model), self.accelerator.autocast
        placed = WithPositions(model, unwrapped, autocast)
        return super()._full_logits_logps(placed, *args, **kwargs)

    def _save_checkpoint(self, model: CausalModel, trial: Any) -> None:  # noqa: ANN401
        with self.clock("checkpoint"):
            save = super()._save_checkpoint
            self.patience(lambda: save(model, trial), "saving the checkpoint")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Hand the metrics to TRL's trackers and the journal."""
        # what ends a run with train_runtime sums up this process, not a step
        of_a_step = "train_runtime" not in logs
        if not of_a_step and self._metrics["train"]:
            # TRL would add to it the metrics of the steps since it last logged
            self.log({})
        if of_a_step:
            n_steps = max(int(self.state.global_step) - self._timed_from, 1)
            self._timed_from = int(self.state.global_step)
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
