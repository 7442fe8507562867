"""What the demo's policy is taught before any reinforcement: answers with bugs, and to read a re-prompt.

A policy that answers rightly whenever it is re-prompted has learned the words of the re-prompt, not to
read it. So it is shown wrong and unrelated demonstrations in the same words: a demonstration of the asked
function is followed, right or wrong, and anything about another function changes nothing. Feedback on the
asked function is followed by the right answer, feedback on another changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from evaluator.grading.feedback import feedback
from evaluator.grading.grade import grade
from evaluator.problems.mbpp import Problem
from evaluator.problems.prompt import messages
from sandbox.client import Sandbox
from trainer.demo.families import FAMILIES
from trainer.demo.problems import Combination, DemoProblem, fenced
from trainer.teacher.prompt import Message
from trainer.teacher.shown import reprompt

MIXTURES = ((0.50, 0.35), (0.22, 0.60), (0.25, 0.55), (0.55, 0.25), (0.18, 0.62))
"""Shares of right answers and of the family's usual bug, the rest other bugs; cycled over the families."""

CORRECT, WRONG, UNRELATED = 0.40, 0.60, 0.20
"""Shares of problems that are also asked with such a demonstration.

Wrong ones outnumber right ones: at .35 and .20 the policy answered 169 of 240 held-out problems rightly
when shown a WRONG solution, against 115 without any: it had learned that a re-prompt asks for care.
"""
OWN_FEEDBACK, OTHER_FEEDBACK = 0.20, 0.20


@dataclass(frozen=True)
class Lesson:
    """One conversation of the warm start: chat messages and the answer to learn."""

    messages: list[Message]
    answer: str


def lessons(
    problems: Sequence[DemoProblem],
    loaded: Sequence[Problem],
    sandbox: Sandbox,
    *,
    seed: int,
    reprompts: bool,
) -> list[Lesson]:
    """The lessons of some problems; `loaded` are the same problems as every run sees them.

    `sandbox` runs the wrong answers whose feedback is shown. Without `reprompts` each problem is only
    asked plainly.
    """
    random = Random(f"lessons {seed}")
    plain = [
        Lesson(messages(problem), answer(made.combination, random))
        for made, problem in zip(problems, loaded, strict=True)
    ]
    if not reprompts:
        return plain
    return [
        *plain,
        *_demonstrated(problems, loaded, random),
        *_criticised(problems, loaded, sandbox, random),
    ]


def answer(combination: Combination, random: Random) -> str:
    """A right or wrong answer, in the shares of its family."""
    right, usual = MIXTURES[_place(combination)]
    drawn = random.random()
    if drawn < right:
        return right_answer(combination)
    if drawn < right + usual:
        return fenced(combination.function(combination.family.bugs[0]))
    return fenced(random.choice(other_bugs(combination)))


def right_answer(combination: Combination) -> str:
    """The true solution as an answer."""
    return fenced(combination.function(combination.family.right))


def wrong_answer(combination: Combination, random: Random) -> str:
    """One of its bugs as an answer, the usual one half of the time."""
    usual = combination.function(combination.family.bugs[0])
    return fenced(random.choice([usual, random.choice(other_bugs(combination))]))


def other_bugs(combination: Combination) -> list[str]:
    """The family's rarer bugs, a misspelt variable (NameError) and a missing colon (SyntaxError)."""
    family = combination.family
    rare = [combination.function(body) for body in family.bugs[1:]]
    header, _, body = combination.function(family.right).partition("\n")
    misspelt = header.replace(f"({family.argument})", "(value)") + "\n" + body
    return [*rare, misspelt, f"{header.removesuffix(':')}\n{body}"]


def reprompted(
    problem: Problem, *, solution: str | None = None, feedback: str | None = None
) -> list[Message]:
    """What the teacher reads when it is shown a peer's solution or feedback, in SDPO's own words."""
    prompt = reprompt(messages(problem), solution=solution, feedback=feedback)
    if prompt is None:
        raise RuntimeError("a re-prompt must have something to show; give an attempt that has")
    return prompt


def _demonstrated(
    problems: Sequence[DemoProblem], loaded: Sequence[Problem], random: Random
) -> Iterator[Lesson]:
    for made, problem in zip(problems, loaded, strict=True):
        combination = made.combination
        for share, kind in ((CORRECT, "correct"), (WRONG, "wrong"), (UNRELATED, "unrelated")):
            if random.random() >= share:
                continue
            if kind == "correct":
                shown = learned = right_answer(combination)
            elif kind == "wrong":
                shown = learned = wrong_answer(combination, random)
            else:
                shown = right_answer(other_than(combination, problems, random))
                learned = answer(combination, random)
            yield Lesson(reprompted(problem, solution=shown), learned)


def _criticised(
    problems: Sequence[DemoProblem], loaded: Sequence[Problem], sandbox: Sandbox, random: Random
) -> Iterator[Lesson]:
    """Real feedback of the sandbox, on an attempt at this problem or at another."""
    pairs = list(zip(problems, loaded, strict=True))
    own = [pair for pair in pairs if random.random() < OWN_FEEDBACK]
    failed = grade([(p, wrong_answer(made.combination, random)) for made, p in own], sandbox)
    texts = [feedback(found) for found in failed]
    for (made, problem), text in zip(own, texts, strict=True):
        if text is not None:
            shown = reprompted(problem, feedback=text)
            yield Lesson(shown, right_answer(made.combination))
    known = [(p.callables[0], text) for (_, p), text in zip(own, texts, strict=True) if text]
    for made, problem in pairs:
        name, text = random.choice(known)
        if random.random() < OTHER_FEEDBACK and name != problem.callables[0]:
            shown = reprompted(problem, feedback=text)
            yield Lesson(shown, answer(made.combination, random))


def other_than(
    combination: Combination, problems: Sequence[DemoProblem], random: Random
) -> Combination:
    """The combination of another family."""
    while True:
        other = random.choice(problems).combination
        if other.family.key != combination.family.key:
            return other


def _place(combination: Combination) -> int:
    keys = [family.key for family in FAMILIES]
    return keys.index(combination.family.key) % len(MIXTURES)
