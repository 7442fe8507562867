"""The demo's problems in MBPP's form: made from families, split so that no held-out function was seen.

A combination is (family, parameters, function name). Every problem of a held-out combination is kept from
the warm start and from reinforcement learning; wordings and arguments vary within both parts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

from analysis.journal.durable import write_durably
from evaluator.grading.grade import grade
from evaluator.problems.mbpp import ProblemSet, load_problems
from evaluator.problems.prompt import fill
from sandbox.client import Sandbox
from trainer.demo.arguments import Parameters
from trainer.demo.families import FAMILIES, Family

HELD_OUT_FRACTION = 0.15
"""Share of each family's combinations that nothing is trained on."""


@dataclass(frozen=True)
class Combination:
    """One function that can be asked for."""

    family: Family
    parameters: Parameters
    name: str

    def function(self, body: str) -> str:
        """Source of the function with this body, right or wrong."""
        lines = self.text(body).split("\n")
        return f"def {self.name}({self.family.argument}):\n" + "\n".join("    " + x for x in lines)

    def text(self, template: str) -> str:
        """One of the family's texts with the parameters in it."""
        return fill(template, {key: str(value) for key, value in self.parameters.items()})


@dataclass(frozen=True)
class DemoProblem:
    """A row in MBPP's form, and the combination that it asks for."""

    combination: Combination
    row: dict[str, Any]


def combinations(*, held_out: bool, seed: int) -> list[Combination]:
    """All combinations of one side of the split, family by family."""
    found = []
    for family in FAMILIES:
        every = [
            Combination(family, parameters, name)
            for parameters in family.parameters
            for name in family.names
        ]
        Random(f"{seed} {family.key}").shuffle(every)
        n_held_out = round(len(every) * HELD_OUT_FRACTION)
        found += every[:n_held_out] if held_out else every[n_held_out:]
    return found


def make_problems(n: int, *, held_out: bool, seed: int, first_id: int = 1) -> list[DemoProblem]:
    """`n` problems in a shuffled order: each family alike, each combination as often as possible alike."""
    random = Random(f"{seed} {held_out} {first_id}")
    found = groupby(combinations(held_out=held_out, seed=seed), key=lambda c: c.family.key)
    by_family = [_endless(list(members), random) for _, members in found]
    chosen = [next(by_family[i % len(by_family)]) for i in range(n)]
    random.shuffle(chosen)
    return [_problem(c, random, first_id + i) for i, c in enumerate(chosen)]


def write_problems(path: Path, problems: Sequence[DemoProblem]) -> ProblemSet:
    """Write a file that `--dataset` takes, and load it the way every run does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, "".join(json.dumps(p.row) + "\n" for p in problems).encode())
    return load_problems(str(path))


def check_references(problem_set: ProblemSet, sandbox: Sandbox) -> None:
    """Run every true solution against its asserts, once.

    Raises:
        RuntimeError: one fails: a family's truth and its reference disagree.
    """
    pairs = [(problem, fenced(problem.reference)) for problem in problem_set.problems]
    for found in grade(pairs, sandbox):
        if not found.passed:
            raise RuntimeError(
                f"every reference must pass its asserts, got {found.outcome} in "
                f"{found.problem.reference!r}; mend trainer/demo/families.py"
            )


def fenced(code: str) -> str:
    """Code as the policy is taught to answer."""
    return f"```python\n{code}\n```"


def _endless(found: list[Combination], random: Random) -> Iterator[Combination]:
    while True:
        random.shuffle(found)
        yield from found


def _problem(combination: Combination, random: Random, task_id: int) -> DemoProblem:
    family, parameters = combination.family, combination.parameters
    arguments = family.arguments(random, parameters)
    random.shuffle(arguments)
    asserts = [
        f"assert {combination.name}({_literal(value)}) == {_literal(family.truth(value, parameters))}"
        for value in arguments
    ]
    row = {
        "task_id": task_id,
        "text": combination.text(random.choice(family.wordings)),
        "code": combination.function(family.right),
        "test_list": asserts,
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    return DemoProblem(combination, row)


def _literal(value: object) -> str:
    """Python source of a value, strings in double quotes as in the problems' texts."""
    return repr(value).replace("'", '"')  # no value of ours holds a quote
