"""Measures whether a policy reads a re-prompt: its pass rate with and without various demonstrations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal, get_args

from analysis.journal.durable import write_durably
from analysis.statistics.intervals import wilson
from evaluator.grading.feedback import feedback
from evaluator.grading.grade import grade
from evaluator.problems.mbpp import Problem
from evaluator.problems.prompt import messages
from evaluator.sampling.model import Policy
from sandbox.client import Sandbox
from trainer.demo.pretraining_texts import other_than, reprompted, right_answer, wrong_answer
from trainer.demo.problems import DemoProblem
from trainer.teacher.prompt import Message
from trainer.teacher.shown import Asked, ask

Shown = Literal["nothing", "a correct solution", "a wrong one", "another problem's", "its feedback"]
SHOWN: tuple[Shown, ...] = get_args(Shown)


@dataclass(frozen=True)
class Reading:
    """Held-out problems solved (greedy) by what the prompt shows beside the problem."""

    n: int
    solved: dict[str, int]
    """By `Shown`."""

    def interval(self, shown: Shown) -> tuple[float, float]:
        """95 % interval of the pass rate, 0..1."""
        return wilson(self.solved[shown], self.n)


def measure_reading(
    policy: Policy,
    made: Sequence[DemoProblem],
    loaded: Sequence[Problem],
    sandbox: Sandbox,
    *,
    seed: int,
    max_new_tokens: int,
) -> Reading:
    """Ask every problem once for each of `SHOWN`, the demonstrations in SDPO's own words."""
    random = Random(f"reading {seed}")
    pairs = list(zip(made, loaded, strict=True))
    wrong = [wrong_answer(m.combination, random) for m in made]
    failed = grade(list(zip(loaded, wrong, strict=True)), sandbox)
    texts = [feedback(found) for found in failed]

    def conversation(index: int, shown: Shown) -> list[Message]:
        demo, problem = pairs[index]
        match shown:
            case "nothing":
                return messages(problem)
            case "its feedback":
                return reprompted(problem, feedback=texts[index])
            case "a correct solution":
                text = right_answer(demo.combination)
            case "a wrong one":
                text = wrong[index]
            case _:
                text = right_answer(other_than(demo.combination, made, random))
        return reprompted(problem, solution=text)

    solved: dict[str, int] = {}
    for shown in SHOWN:
        answers = ask(
            policy,
            [Asked(problem, conversation(i, shown)) for i, (_, problem) in enumerate(pairs)],
            sandbox,
            max_new_tokens=max_new_tokens,
            batch_size=120,
        )
        solved[shown] = sum(answer.grade.passed for answer in answers)
    return Reading(len(pairs), solved)


def stored_reading(path: Path) -> Reading | None:
    """What `store_reading` wrote, or None."""
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return Reading(content["n"], content["solved"])


def store_reading(path: Path, reading: Reading) -> None:
    """Write the figures beside the policy that they are of."""
    write_durably(path, json.dumps(vars(reading), indent=1).encode())
