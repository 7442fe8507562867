"""Asks a policy some problems: in which batches, and what is kept of each answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from analysis.task_ids import TaskId
from evaluator.problems.problem import Problem
from evaluator.problems.prompt import Protocol, conversation
from evaluator.sampling.answer_end import before_stop, stop_rule
from evaluator.sampling.completions import Answer
from evaluator.sampling.policy import Batch, Decoding, Policy, plan_batches, sample_batch


class SamplingPlan:
    """The batches in which a policy answers some problems; each can be sampled alone, in any order.

    The plan follows from the arguments: every process that makes it has the same batches, and a
    batch gives the same answers wherever it is sampled on like hardware. Sampling of a completion
    ends as soon as a closed code block defines the tested function: what would follow cannot change
    the extracted program.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        policy: Policy,
        *,
        protocol: Protocol,
        shots: Sequence[Problem],
        decoding: Decoding,
        batch_size: int,
        done: Collection[tuple[TaskId, int]] = (),
    ) -> None:
        """Template and sort the prompts; what is `done`, as (task id, sample index), is left out.

        Raises:
            ModelError: the prompts do not fit the model or its tokenizer.
        """
        self._policy, self._protocol, self._decoding = policy, protocol, decoding
        # A batch's place decides its random numbers: what is left of a plan must keep the places of the whole,
        # or samples after a resumption repeat those before it.
        self._wanted = wanted(problems, decoding, ())
        self._done = frozenset(done)
        batches = plan_batches(
            policy,
            [conversation(problem, protocol, tuple(shots)) for problem, _ in self._wanted],
            max_new_tokens=decoding.max_new_tokens,
            batch_size=batch_size,
        )
        self.batches: list[Batch] = [b for b in batches if any(map(self._is_missing, b.indices))]

    def _is_missing(self, at: int) -> bool:
        problem, sample_index = self._wanted[at]
        return (problem.task_id, sample_index) not in self._done

    def answers(self, index: int) -> list[Answer]:
        """Sample one batch, whole where only a part of it is missing, and return what is missing."""
        batch = self.batches[index]
        rules = {at: stop_rule(self._wanted[at][0], self._protocol) for at in batch.indices}
        samples = sample_batch(self._policy, batch, decoding=self._decoding, stop=rules)
        return [
            Answer(
                problem=self._wanted[at][0],
                completion=before_stop(sample.text, self._protocol.stop),
                sample_index=self._wanted[at][1],
                prompt=sample.prompt,
                n_tokens=sample.n_tokens,
                truncated=sample.truncated,
            )
            for at, sample in sorted(samples.items())
            if self._is_missing(at)
        ]


def wanted(
    problems: Sequence[Problem], decoding: Decoding, done: Collection[tuple[TaskId, int]]
) -> list[tuple[Problem, int]]:
    """Return the completions still to sample, as problem and sample index."""
    return [
        (problem, sample_index)
        for problem in problems
        for sample_index in range(decoding.n_samples)
        if (problem.task_id, sample_index) not in done
    ]
