"""The teacher's gap before training: what a policy gains when its prompt shows more than the problem.

For each problem the policy first answers alone, some times by sampling and once greedily. Then it is
shown, in SDPO's own words, one thing at a time:

    peer       the group's first passing answer
    reference  the problem's reference solution
    feedback   what the sandbox said of its first failing answer
    wrong      that failing answer, as if it were a solution
    other      another problem's reference solution

and two things are measured. It answers again, greedily: the pass rate. And it reads its own first passing and
first failing answer: the mean log p of their tokens at the sampling temperature, as SDPO's loss would see
it. An answer is never shown itself. Each figure is a paired difference from being shown nothing.
Source: arXiv:2605.30070 reports that the gap in pass rate predicts the gain of training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

from analysis.journal.journal import Journal, StoreError, segments
from analysis.journal.lines import Damage, scan
from analysis.records import GapAnswer, GapLogprob
from analysis.statistics.intervals import Interval, mean_interval
from analysis.statistics.paired import paired_difference
from analysis.task_ids import TaskId, task_order
from evaluator.grading.feedback import control_tokens, feedback
from evaluator.models.context_length import context_length
from evaluator.problems.mbpp import Problem
from evaluator.problems.prompt import MBPP
from evaluator.problems.user_code import UserFunction
from evaluator.sampling.model import Policy
from sandbox.client import Sandbox
from trainer.experiments.reading import answer_logprobs, prompt_ids
from trainer.options.prompting import Asking
from trainer.teacher.prompt import Message, demonstration
from trainer.teacher.shown import Asked, GradedSample, ask, reference_answer, reprompt

Kind = Literal["nothing", "peer", "reference", "feedback", "wrong", "other"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Measure = Literal["pass_rate", "passing_logprob", "failing_logprob"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


@dataclass(frozen=True)
class GapOptions:
    """How the gap is measured."""

    n_samples: int = 4
    """Sampled answers of each problem, >= 2: a passing one's peer is another."""
    temperature: float = 0.7
    max_new_tokens: int = 256
    batch_size: int = 32
    """Completions sampled together."""
    read_together: int = 8
    """Answers read together."""
    seed: int = 42
    timeout_s: float = 5.0
    form: Asking = Asking(MBPP)
    """How the problems are asked."""
    said: UserFunction | None = None
    """A person's own feedback, in the place of ours."""


@dataclass(frozen=True)
class GapRow:
    """One measure where one thing is shown, beside nothing on the same problems."""

    measure: Measure
    shown: Kind
    n: int
    """Problems that have both."""
    nothing: float
    value: float
    interval: Interval | None
    """95 %, of the paired difference; None of mean log p below three problems, or where all agree."""

    @property
    def difference(self) -> float:
        """What being shown it changes."""
        return self.value - self.nothing


def measure_gap(
    policy: Policy,
    problems: Sequence[Problem],
    sandbox: Sandbox,
    journal: Journal,
    options: GapOptions,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Measure problem by problem into the journal; problems whose rows it holds are left out.

    The problems are taken some at a time, always the same ones together, so that a run which was
    interrupted measures what it would have.

    Raises:
        ModelError: the prompts do not fit the model or its tokenizer.
        SandboxError: the sandbox failed; rows of earlier problems are kept.
        StoreError: the journal could not be written or read.
        UserCodeError: the person's feedback cannot be used.
    """
    done = {row.task_id for row in stored_rows(journal.run_dir) if _marks_the_end(row)}
    together = max(1, options.batch_size // options.n_samples)
    for start in range(0, len(problems), together):
        chosen = problems[start : start + together]
        if not all(problem.task_id in done for problem in chosen):
            others = [problems[(start + i + 1) % len(problems)] for i in range(len(chosen))]
            rows = _rows(policy, chosen, others, sandbox, options, seed=options.seed + start)
            # what marks a problem as done stands last: a write that was cut short is measured again
            for row in sorted(rows, key=_marks_the_end):
                journal.append(row)
            journal.commit()
        progress(len(chosen))


def _rows(
    policy: Policy,
    problems: Sequence[Problem],
    others: Sequence[Problem],
    sandbox: Sandbox,
    options: GapOptions,
    *,
    seed: int,
) -> Iterator[GapAnswer | GapLogprob]:
    """All rows of some problems: own answers, answers when shown something, own answers read again."""

    def answers(asked: Sequence[Asked], temperature: float) -> list[GradedSample]:
        return ask(
            policy,
            asked,
            sandbox,
            max_new_tokens=options.max_new_tokens,
            batch_size=options.batch_size,
            temperature=temperature,
            seed=seed,
            timeout_s=options.timeout_s,
            protocol=options.form.protocol,
        )

    n = options.n_samples
    plain = [options.form.messages(problem) for problem in problems]
    asked = [Asked(p, talk) for p, talk in zip(problems, plain, strict=True) for _ in range(n)]
    sampled = answers(asked, options.temperature)
    groups = [
        _Group(policy, problem, talk, other, sampled[i * n : i * n + n], options)
        for i, (problem, talk, other) in enumerate(zip(problems, plain, others, strict=True))
    ]
    for group in groups:
        for index, answer in enumerate(group.own):
            yield _answer_row(group.problem, "nothing", answer, greedy=False, index=index)

    shown = [(group, kind, talk) for group in groups for kind, talk in group.shown().items()]
    greedy = answers([Asked(group.problem, talk) for group, _, talk in shown], 0.0)
    for (group, kind, _), answer in zip(shown, greedy, strict=True):
        yield _answer_row(group.problem, kind, answer, greedy=True, index=0)
    yield from _read_again(policy, groups, options)


def _read_again(
    policy: Policy, groups: Sequence[_Group], options: GapOptions
) -> Iterator[GapLogprob]:
    """The first passing and failing answers, read beside each thing that can be shown."""
    read = [
        (group, index, kind, talk)
        for group in groups
        for index in group.read
        for kind, talk in group.shown(index).items()
    ]
    logprobs = answer_logprobs(
        policy,
        [(talk, group.own[index].sample.text) for group, index, _, talk in read],
        temperature=options.temperature,
        batch_size=options.read_together,
    )
    for (group, index, kind, _), (n_tokens, mean) in zip(read, logprobs, strict=True):
        yield GapLogprob(
            task_id=group.problem.task_id,
            sample_index=index,
            shown=kind,
            passed=group.own[index].grade.passed,
            n_tokens=n_tokens,
            mean_logprob=mean,
        )


@dataclass
class _Group:
    """A policy's own answers to one problem, and what can be shown beside it."""

    policy: Policy
    problem: Problem
    plain: Sequence[Message]
    other: Problem
    own: Sequence[GradedSample]
    options: GapOptions

    def __post_init__(self) -> None:
        self._special = control_tokens(self.policy.tokenizer)

    @property
    def read(self) -> list[int]:
        """The first passing and the first failing answer that hold a token."""
        firsts = (self._first(passed=passed, but=None) for passed in (True, False))
        return sorted(index for index in firsts if index is not None)

    def shown(self, of: int | None = None) -> dict[Kind, Sequence[Message]]:
        """Prompts by what they show, where there is such a thing; `of` is the answer that is read.

        An answer is not shown itself; its feedback is its own, and a passing answer has none.
        """
        peer = self._first(passed=True, but=of)
        wrong = self._first(passed=False, but=of)
        failed = wrong if of is None else of
        said = (
            None
            if failed is None
            else feedback(
                self.own[failed].grade, special_tokens=self._special, function=self.options.said
            )
        )
        prompts: dict[Kind, Sequence[Message] | None] = {
            "nothing": self.plain,
            "peer": self._reprompt(solution=self._text(peer)),
            "reference": self._reprompt(solution=reference_answer(self.problem)),
            "feedback": self._reprompt(feedback=said),
            "wrong": self._reprompt(solution=self._text(wrong)),
            "other": self._reprompt(solution=reference_answer(self.other)),
        }
        return {kind: prompt for kind, prompt in prompts.items() if prompt is not None}

    def _first(self, *, passed: bool, but: int | None) -> int | None:
        for index, answer in enumerate(self.own):
            if answer.grade.passed is passed and index != but and answer.sample.text.strip():
                return index
        return None

    def _text(self, index: int | None) -> str | None:
        if index is None:
            return None
        return demonstration(
            self.own[index].sample.text, special_tokens=self._special, strip_thinking=True
        )

    def _reprompt(
        self, *, solution: str | None = None, feedback: str | None = None
    ) -> list[Message] | None:
        if solution is None and feedback is None:
            return None
        context = context_length(self.policy.model)
        return reprompt(
            self.plain,
            solution=solution,
            feedback=feedback,
            n_tokens=lambda talk: len(prompt_ids(self.policy, talk)),
            max_tokens=10_240 if context is None else context - self.options.max_new_tokens,
        )


def _answer_row(
    problem: Problem, kind: Kind, answer: GradedSample, *, greedy: bool, index: int
) -> GapAnswer:
    return GapAnswer(
        task_id=problem.task_id,
        shown=kind,
        greedy=greedy,
        sample_index=index,
        prompt=answer.sample.prompt,
        completion=answer.sample.text,
        n_completion_tokens=answer.sample.n_tokens,
        truncated=answer.sample.truncated,
        outcome=answer.grade.outcome,
        passed=answer.grade.passed,
    )


def _marks_the_end(row: GapAnswer | GapLogprob) -> bool:
    return isinstance(row, GapAnswer) and row.greedy and row.shown == "nothing"


def gap_rows(run_dir: Path) -> list[GapRow]:
    """Every measure of every thing shown, from a run's journal; the view `teacher_gap` says the same."""
    values: dict[tuple[Measure, str], dict[TaskId, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in stored_rows(run_dir):
        if isinstance(row, GapAnswer):
            if row.greedy:
                values["pass_rate", row.shown][row.task_id].append(float(row.passed))
        else:
            measure: Measure = "passing_logprob" if row.passed else "failing_logprob"
            values[measure, row.shown][row.task_id].append(row.mean_logprob)
    found = [
        _gap_row(measure, kind, values[measure, kind], values[measure, "nothing"])
        for measure in MEASURES
        for kind in KINDS
    ]
    return [row for row in found if row is not None]


def _gap_row(
    measure: Measure,
    kind: Kind,
    shown: dict[TaskId, list[float]],
    nothing: dict[TaskId, list[float]],
) -> GapRow | None:
    """The row of some problems' values; a problem has one value of each measure."""
    pairs = [(nothing[task_id][0], shown[task_id][0]) for task_id in sorted(shown, key=task_order)]
    n = len(pairs)
    if not n:
        return None
    interval = None
    if kind != "nothing" and measure == "pass_rate":
        gained = sum(after > before for before, after in pairs)
        interval = paired_difference(gained, sum(after < before for before, after in pairs), n)
    elif kind != "nothing" and n > 2 and len({after - before for before, after in pairs}) > 1:
        interval = mean_interval([after - before for before, after in pairs])
    return GapRow(
        measure,
        kind,
        n,
        nothing=sum(before for before, _ in pairs) / n,
        value=sum(after for _, after in pairs) / n,
        interval=interval,
    )


def stored_rows(run_dir: Path) -> Iterator[GapAnswer | GapLogprob]:
    """The rows of a gap in a run, in the order of their keys' first rows; of two with one key, the later.

    Raises:
        StoreError: a damaged line, or a row of another version.
    """
    kinds: dict[str, type[GapAnswer | GapLogprob]] = {
        kind.table: kind for kind in (GapAnswer, GapLogprob)
    }
    rows: dict[tuple[object, ...], GapAnswer | GapLogprob] = {}
    for _, path in segments(run_dir):
        for line in scan(path):
            if isinstance(line, Damage):
                raise StoreError(f"a journal must be as it was written, got {line}; restore it")
            if (kind := kinds.get(line.table)) is not None:
                try:
                    row = kind.model_validate_json(line.row)
                except ValidationError as error:
                    raise StoreError(
                        f"a journal's rows must be of this version, got {str(run_dir)!r} "
                        f"({error.errors()[0]['msg']}); upgrade sdpo-bench"
                    ) from error
                rows[line.table, *(getattr(row, name) for name in kind.key)] = row
    yield from rows.values()
