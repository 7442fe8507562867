"""One process's part of an evaluation: a policy and a sandbox, and the batches they work through.

The local engine is one worker in this process; on a cluster each node has one. What a worker is given
can be pickled, and what it does follows from that alone, so any worker can do any batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from analysis.provenance import Weights, weights_of
from evaluator.engines.threads import side_by_side
from evaluator.evaluation.evaluate import GRADED_TOGETHER, GradedAnswer, graded_batches, in_batches
from evaluator.evaluation.self_check import check_harness
from evaluator.problems.problem import Problem, ProblemSet
from evaluator.problems.prompt import Protocol
from evaluator.sampling.batches import SamplingPlan
from evaluator.sampling.completions import Answer
from evaluator.sampling.model import Policy, load_policy
from evaluator.sampling.policy import Decoding
from sandbox.client import Sandbox

SIDE_BY_SIDE = 3
"""Batches of recorded answers graded at a time, so that a program which takes seconds makes none of them wait."""


@dataclass(frozen=True)
class Sampling:
    """Which policy is asked, in which words, and how it answers."""

    model: str | None
    adapter: Path | None
    protocol: Protocol
    """The prompt form."""
    shots: tuple[Problem, ...]
    decoding: Decoding
    batch_size: int
    device: str = "auto"
    dtype: str = "auto"
    load_in_4bit: bool = False
    allow_other_base: bool = False
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    chat_template: Path | None = None
    """File in place of the tokenizer's."""


@dataclass(frozen=True)
class Work:
    """All that a worker must know of an evaluation."""

    problem_set: ProblemSet
    recorded: tuple[Answer, ...] = ()
    """Answers that are already there: they are only graded."""
    sampling: Sampling | None = None
    """How the missing ones are had; None where none is missing."""
    timeout_s: float = 5.0
    graded_together: int = GRADED_TOGETHER
    """Recorded answers in one batch."""
    check: bool = False
    """Whether grading is checked before a model is scored."""

    @property
    def n(self) -> int:
        """Answers that come out of it."""
        if self.sampling is None:
            return len(self.recorded)
        return len(self.problem_set.problems) * self.sampling.decoding.n_samples


@dataclass(frozen=True)
class Facts:
    """What a worker found where it runs; must be the same on every node but for the placement."""

    sandbox: str
    """Backend and image."""
    n_batches: int = 0
    """Of the plan; 0 where there is none to share."""
    model: str | None = None
    model_sha256: str | None = None
    adapter: str | None = None
    placement: tuple[tuple[str, str], ...] = ()
    """Device and number format of the weights."""

    @property
    def weights(self) -> Weights | None:
        """What answers; None where no model does."""
        if self.model is None:
            return None
        return Weights(self.model, self.model_sha256, self.adapter)


class Worker:
    """Grades the recorded batches of some work, and samples and grades the others."""

    def __init__(self, work: Work, sandbox: Sandbox) -> None:
        """Check the grading, load the policy, make the plan.

        Raises:
            HarnessError: grading is broken here.
            ModelError: the model cannot be loaded, or the prompts do not fit it.
            SandboxError: the sandbox failed.
        """
        self._work, self._sandbox = work, sandbox
        if work.check:
            check_harness(work.problem_set, sandbox, timeout_s=work.timeout_s)
        self._recorded = list(in_batches(work.recorded, work.graded_together))
        self._plan: SamplingPlan | None = None
        self.facts = Facts(sandbox.name, len(self._recorded))
        """What this worker found."""
        if work.sampling is not None:
            policy = _policy(work.sampling)
            self._plan = _plan(work, work.sampling, policy)
            n_batches = len(self._recorded) + len(self._plan.batches)
            weights = weights_of(policy.name, policy.adapter)
            self.facts = facts_of(sandbox.name, weights, policy.placement, n_batches)

    def batches(self) -> Iterator[list[GradedAnswer]]:
        """Yield all batches of graded answers, in order; recorded ones are graded side by side.

        Raises:
            SandboxError: the sandbox failed; nothing of the batch in hand is kept.
        """
        n_recorded = len(self._recorded)
        with side_by_side(SIDE_BY_SIDE) as threads:
            yield from threads.map(self.graded, range(n_recorded))
        for index in range(n_recorded, self.facts.n_batches):
            yield self.graded(index)

    def graded(self, index: int) -> list[GradedAnswer]:
        """Return one batch of graded answers.

        Raises:
            SandboxError: the sandbox failed; nothing of the batch is kept.
        """
        if index < len(self._recorded):
            answers = self._recorded[index]
        else:
            assert self._plan is not None  # noqa: S101 - the number of batches bounds the index
            answers = self._plan.answers(index - len(self._recorded))
        (batch,) = graded_batches([answers], self._sandbox, timeout_s=self._work.timeout_s)
        return batch


def facts_of(
    sandbox: str, weights: Weights, placement: Mapping[str, str], n_batches: int = 0
) -> Facts:
    """Return what is stored of a loaded model and its place."""
    place = tuple(sorted(placement.items()))
    return Facts(sandbox, n_batches, **asdict(weights), placement=place)


def _plan(work: Work, sampling: Sampling, policy: Policy) -> SamplingPlan:
    return SamplingPlan(
        work.problem_set.problems,
        policy,
        protocol=sampling.protocol,
        shots=sampling.shots,
        decoding=sampling.decoding,
        batch_size=sampling.batch_size,
        done={(answer.problem.task_id, answer.sample_index) for answer in work.recorded},
    )


def _policy(sampling: Sampling) -> Policy:
    return load_policy(
        sampling.model,
        adapter=sampling.adapter,
        device=sampling.device,
        dtype=sampling.dtype,
        load_in_4bit=sampling.load_in_4bit,
        allow_other_base=sampling.allow_other_base,
        chat_template_kwargs=sampling.chat_template_kwargs,
        chat_template=sampling.chat_template,
    )
