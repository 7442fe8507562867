"""An environment for verifiers: the problems as its tasks, the sandbox's verdicts as its reward.

verifiers finds a taskset by the name of a module without dots; `mbpp_sandbox.py` with two lines is one:

    from evaluator.integrations.verifiers import MbppTaskset
    __all__ = ["MbppTaskset"]
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import verifiers.v1 as vf

from evaluator.grading.reward import reward
from evaluator.integrations.rows import grade_rows
from evaluator.problems.mbpp import load_problems
from evaluator.problems.prompt import messages


class MbppData(vf.TaskData):
    """What one task is made of; travels with its traces."""

    test_list: list[str]
    test_imports: list[str]
    test_setup_code: str
    code: str


class MbppTaskConfig(vf.TaskConfig):
    """Settings of the grading."""

    sandbox: str | None = None
    timeout_s: float = 5.0
    format_weight: float = 0.0


class MbppTask(vf.Task[MbppData, vf.State, MbppTaskConfig]):
    """One problem."""

    @vf.reward
    async def correctness(self, trace: vf.Trace) -> float:
        """Return the reward of the last reply; a sandbox that fails is the rollout's error, not a reward of 0."""
        (found,) = await asyncio.to_thread(
            grade_rows,
            [self.data.model_dump()],
            [trace.last_reply],
            sandbox=self.config.sandbox,
            timeout_s=self.config.timeout_s,
        )
        trace.record_metric("passed", float(found.passed))
        return reward(found, format_weight=self.config.format_weight).total


class MbppConfig(vf.TasksetConfig):
    """Which problems."""

    dataset: str = "sanitized/train"
    task: MbppTaskConfig = MbppTaskConfig()


class MbppTaskset(vf.Taskset[MbppTask, MbppConfig]):
    """The problems of a data set that `--dataset` names."""

    def load(self) -> Iterator[MbppTask]:
        """Yield one task a problem."""
        for problem in load_problems(self.config.dataset).problems:
            data = MbppData(
                id=str(problem.task_id),
                prompt=messages(problem)[-1]["content"],
                test_list=list(problem.asserts),
                test_imports=list(problem.imports),
                test_setup_code=problem.setup_code,
                code=problem.reference,
            )
            yield MbppTask(data, self.config.task)


__all__ = ["MbppTaskset"]
