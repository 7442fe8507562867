"""Asks a policy with something shown beside the problem, in the words of SDPO's teacher prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from evaluator.answers.answer_text import opened_by
from evaluator.grading.grade import Grade, grade
from evaluator.problems.mbpp import Problem
from evaluator.problems.prompt import MBPP, Protocol
from evaluator.sampling.answer_end import before_stop, stop_rule
from evaluator.sampling.completions import gold_answers
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


def reference_answer(problem: Problem) -> str | None:
    """The problem's reference solution as an answer; None where it has none."""
    return next((answer.completion for answer in gold_answers([problem])), None)


def reprompt(
    asked: Sequence[Message],
    *,
    solution: str | None = None,
    feedback: str | None = None,
    n_tokens: Callable[[Sequence[Message]], int] = lambda _: 0,
    max_tokens: int = 10_240,
) -> list[Message] | None:
    """What the teacher reads by the usual rules when a peer's solution, or feedback on its own attempt, is shown.

    None where even a fragment would make the prompt longer than `max_tokens`.
    """
    peer = SILENT if solution is None else Attempt(solution, success=True, feedback=None)
    own = Attempt("", success=False, feedback=feedback)
    prompt, _ = teacher_prompts(
        asked, [own, peer], TeacherRules(), n_tokens=n_tokens, max_tokens=max_tokens
    )
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
    """Sample one completion for each, up to the form's mark, and grade it; in input order. Temperature 0 is greedy.

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
    samples = [replace(s, text=before_stop(s.text, protocol.stop)) for s in samples]
    pairs = [
        (one.problem, opened_by(sample.prompt) + sample.text)
        for one, sample in zip(asked, samples, strict=True)
    ]
    grades = grade(pairs, sandbox, timeout_s=timeout_s)
    return [GradedSample(*item) for item in zip(samples, grades, strict=True)]
