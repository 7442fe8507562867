"""Grades the completions of a rollout batch, once, and keeps what the later stages need of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace

from analysis.records import Record, Rollout
from analysis.reward_hacking.suspects import JudgedAssert, suspicion
from analysis.task_ids import TaskId
from analysis.task_ids import task_id as canonical
from evaluator.grading.feedback import feedback
from evaluator.grading.grade import Grade, grade
from evaluator.grading.reward import Reward, RewardFunction, reward
from evaluator.problems.mbpp import Problem
from evaluator.problems.user_code import UserFunction
from evaluator.results.rows import execution_rows
from sandbox.client import Sandbox
from sandbox.program import Verdict
from trainer.endings.faults import Patience
from trainer.teacher.prompt import Attempt, Message, TeacherPrompt, demonstration
from trainer.teacher.shown import reference_answer


@dataclass(frozen=True)
class GradedRollout:
    """One completion with its grade, before anything of the teacher is decided."""

    grade: Grade
    reward: Reward
    feedback: str | None
    """What the sandbox said; None for a passing completion."""
    demonstration: str
    """The completion as peers may be shown it, see `trainer.teacher.prompt.demonstration`."""

    @property
    def reference(self) -> str | None:
        """The problem's reference solution, see `reference_answer`."""
        return reference_answer(self.grade.problem)

    def attempt(self, *, success_threshold: float) -> Attempt:
        """What the teacher's prompt depends on; success reads the correctness alone."""
        return Attempt(
            text=self.demonstration,
            success=self.reward.correctness >= success_threshold,
            feedback=self.feedback,
        )


@dataclass(eq=False)
class RolloutGrader:
    """TRL's two reward functions over one sandbox batch.

    TRL calls reward functions one after the other with the same completions; `correctness` grades them,
    `format_score` reads what it found.
    """

    problems: Mapping[TaskId, Problem]
    """By task id."""
    sandbox: Sandbox
    _: KW_ONLY
    timeout_s: float
    format_weight: float
    patience: Patience
    special_tokens: Sequence[str] = ()
    """Of the tokenizer whose prompts are answered."""
    strip_thinking: bool = True
    opening: str = ""
    """The tag with which every prompt ends where the chat template opens the thinking."""
    reward_function: RewardFunction | None = None
    """A person's own, in the place of ours; so is the next one."""
    feedback_function: UserFunction | None = None
    graded: list[GradedRollout] = field(default_factory=list, init=False)
    """The last batch, in the order of its completions."""

    @property
    def reward_functions(self) -> list[Callable[..., list[float]]]:
        """What TRL calls, in this order; `weights` go with it."""
        return (
            [self.correctness, self.format_score] if self.reward_function is None else [self.total]
        )

    @property
    def weights(self) -> list[float]:
        """Weight of each function."""
        return [1.0, self.format_weight] if self.reward_function is None else [1.0]

    def total(
        self, completions: Sequence[Sequence[Message]], task_id: Sequence[TaskId], **_: object
    ) -> list[float]:
        """Rewards by a person's own function.

        Raises:
            OutsideFault: see `correctness`.
            UserCodeError: the function cannot be used.
        """
        self.correctness(completions, task_id)
        return [rollout.reward.total for rollout in self.graded]

    def correctness(
        self, completions: Sequence[Sequence[Message]], task_id: Sequence[TaskId], **_: object
    ) -> list[float]:
        """Share of asserts passed, 0..1.

        Raises:
            OutsideFault: nothing could be graded for as long as the patience lasts; no completion gets a
                reward for that.
        """
        pairs = [
            (self.problems[canonical(task)], self.opening + completion[0]["content"])
            for task, completion in zip(task_id, completions, strict=True)
        ]
        grades = self.patience(
            lambda: grade(pairs, self.sandbox, timeout_s=self.timeout_s), "grading"
        )
        grades = [
            replace(g, completion=completion[0]["content"])
            for g, completion in zip(grades, completions, strict=True)
        ]
        self.graded = [
            GradedRollout(
                grade=g,
                reward=reward(g, format_weight=self.format_weight, function=self.reward_function),
                feedback=feedback(
                    g, special_tokens=self.special_tokens, function=self.feedback_function
                ),
                demonstration=demonstration(
                    g.completion,
                    special_tokens=self.special_tokens,
                    strip_thinking=self.strip_thinking,
                ),
            )
            for g in grades
        ]
        return [rollout.reward.correctness for rollout in self.graded]

    def format_score(self, completions: Sequence[Sequence[Message]], **_: object) -> list[float]:
        """Format score of the batch that `correctness` graded, 0..1."""
        texts = [completion[0]["content"] for completion in completions]
        if texts != [rollout.grade.completion for rollout in self.graded]:
            raise RuntimeError(
                "format_score must follow correctness on the same completions, got others; "
                "TRL's order of reward functions has changed"
            )
        return [rollout.reward.format_score for rollout in self.graded]


@dataclass(frozen=True)
class SampledRollout:
    """A graded completion together with what sampling and the teacher's rules made of it."""

    graded: GradedRollout
    prompt: str
    n_prompt_tokens: int
    n_completion_tokens: int
    truncated: bool
    advantage: float
    teacher: TeacherPrompt | None
    teacher_prompt: str | None


def rollout_records(
    rollouts: Sequence[SampledRollout],
    *,
    step: int,
    group_size: int,
    first_group: int = 0,
    visible_tests: str = "all",
) -> list[Record]:
    """The journal rows of a rollout batch: each rollout, its execution and its test results.

    `first_group` numbers its first group within the step, which may sample several batches;
    `visible_tests` says which asserts the prompt showed: all, first or none.
    """
    records: list[Record] = []
    for position, rollout in enumerate(rollouts, start=first_group * group_size):
        group_index, member_index = divmod(position, group_size)
        execution_id = f"r{step}.{group_index}.{member_index}"
        why = _suspicion(rollout.graded.grade, visible_tests)
        records.append(_rollout(rollout, step, group_index, member_index, execution_id, why))
        records += execution_rows(rollout.graded.grade, execution_id=execution_id)
    return records


def _suspicion(grade: Grade, visible_tests: str) -> str:
    """Why the program looks like an attempt on the grader; empty where it does not."""
    if grade.problem.cases:
        return suspicion(grade.extraction.code, [], n_untrusted=0)
    results = grade.execution.results
    n_visible = grade.problem.n_visible
    n_shown = {"all": n_visible, "first": min(1, n_visible), "none": 0}[visible_tests]
    judged = [
        JudgedAssert(
            result.assertion,
            passed=result.trusted and result.verdict is Verdict.PASSED,
            shown=index < n_shown,
        )
        for index, result in enumerate(results)
    ]
    n_untrusted = sum(not result.trusted for result in results)
    return suspicion(grade.extraction.code, judged, n_untrusted=n_untrusted)


def _rollout(
    rollout: SampledRollout, step: int, group: int, member: int, execution_id: str, why: str
) -> Rollout:
    graded, teacher = rollout.graded, rollout.teacher
    return Rollout(
        step=step,
        group_index=group,
        member_index=member,
        execution_id=execution_id,
        task_id=graded.grade.problem.task_id,
        prompt=rollout.prompt,
        completion=graded.grade.completion,
        n_prompt_tokens=rollout.n_prompt_tokens,
        n_completion_tokens=rollout.n_completion_tokens,
        truncated=rollout.truncated,
        code=graded.grade.extraction.code,
        outcome=graded.grade.outcome,
        n_passed=graded.grade.n_passed,
        n_asserts=graded.grade.n_asserts,
        correctness=graded.reward.correctness,
        format_score=graded.reward.format_score,
        reward=graded.reward.total,
        reward_parts={
            part.name: {"value": part.value, "weight": part.weight} for part in graded.reward.parts
        }
        or None,
        advantage=rollout.advantage,
        feedback=graded.feedback,
        demonstration_member=None if teacher is None else teacher.demonstration_member,
        feedback_used=teacher is not None and teacher.feedback_used,
        teacher_prompt=rollout.teacher_prompt,
        teacher_context=None if teacher is None else teacher.context,
        suspicion=why,
    )
