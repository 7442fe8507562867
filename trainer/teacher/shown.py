"""Asks a policy with something shown beside the problem, in the words of SDPO's teacher prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluator.grading.grade import Grade, grade
from evaluator.problems.mbpp import Problem
from evaluator.problems.prompt import (
    MBPP,
    Conversation,
    Protocol,
    VisibleTests,
    conversation,
    usual_protocol,
)
from evaluator.problems.prompt_file import template_protocol
from evaluator.sampling.answer_end import stop_rule
from evaluator.sampling.model import Policy, Sample, generate
from sandbox.client import Sandbox
from trainer.teacher.prompt import Attempt, Message, TeacherRules, teacher_prompts

SILENT = Attempt("", success=False, feedback=None)
"""A member of a group of which nothing is shown."""


@dataclass(frozen=True)
class Asked:
    """A problem, and what the policy reads of it."""

    problem: Problem
    messages: Sequence[Message]


@dataclass(frozen=True)
class GradedSample:
    """A sampled completion with its grade."""

    sample: Sample
    grade: Grade


def protocol_of(
    problems: Iterable[Problem], *, template: Path | None, visible_tests: VisibleTests
) -> Protocol:
    """Return the chat form in which some problems are asked: a person's file, else the usual one.

    Raises:
        UserCodeError: the file cannot be used.
    """
    if template is not None:
        return template_protocol(template, visible_tests)
    # Here, as in training, showing all tests is what is usual.
    return usual_protocol(list(problems), None if visible_tests == "all" else visible_tests)


def asked_in(protocol: Protocol, problem: Problem) -> Conversation:
    """Return the messages that ask for a problem in a chat form."""
    asked = conversation(problem, protocol)
    assert not isinstance(asked, str)  # noqa: S101 - `protocol_of` gives no other form
    return asked


def reprompt(
    asked: Sequence[Message],
    *,
    solution: str | None = None,
    feedback: str | None = None,
    rules: TeacherRules,
    n_tokens: Callable[[Sequence[Message]], int] = lambda _: 0,
    max_tokens: int = 10_240,
) -> list[Message] | None:
    """What the teacher reads when a peer's solution, or feedback on its own attempt, is shown.

    None where even a fragment would make the prompt longer than `max_tokens`.
    """
    peer = SILENT if solution is None else Attempt(solution, success=True, feedback=None)
    own = Attempt("", success=False, feedback=feedback)
    prompt = teacher_prompts(asked, [own, peer], rules, n_tokens=n_tokens, max_tokens=max_tokens)[0]
    return None if prompt is None else list(prompt.messages)


def ask(
    policy: Policy,
    asked: Sequence[Asked],
    sandbox: Sandbox,
    *,
    max_new_tokens: int,
    batch_size: int,
    temperature: float = 0.0,
    seed: int = 42,
    timeout_s: float = 5.0,
    protocol: Protocol = MBPP,
) -> list[GradedSample]:
    """Sample one completion for each, grade it; in input order. Temperature 0 is greedy.

    Raises:
        ModelError: the prompts do not fit the model or its tokenizer.
        SandboxError: the sandbox failed; nothing is graded.
    """
    samples = generate(
        policy,
        [list(one.messages) for one in asked],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        batch_size=batch_size,
        seed=seed,
        stop=[stop_rule(one.problem, protocol) for one in asked],
    )
    pairs = [(one.problem, sample.text) for one, sample in zip(asked, samples, strict=True)]
    grades = grade(pairs, sandbox, timeout_s=timeout_s)
    return [GradedSample(*item) for item in zip(samples, grades, strict=True)]
