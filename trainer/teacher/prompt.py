"""What the teacher reads: which demonstration and feedback each member of a group is shown, as chat messages.

Decided on strings, before any tensor exists. Source: arXiv:2601.20802, section 3.1; reference
verl/trainer/ppo/ray_trainer.py 611-797. The wording is ours and can be configured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from evaluator.answers.answer_text import without_thinking
from evaluator.grading.feedback import take_apart, without_unseen

Message = dict[str, str]

Context = Literal["peer", "feedback", "reference", "nothing"]
"""What the teacher may be shown beside the problem: a peer's solution or feedback; feedback alone; the problem's
reference solution (arXiv:2601.18734), as a peer's would be; or nothing, so that it reads what the student reads."""

_CUT = "\n[...]\n"


@dataclass(frozen=True)
class Attempt:
    """One member of a group, as far as the teacher's prompt depends on it."""

    text: str
    """The completion, as `demonstration` makes it harmless."""
    success: bool
    """Whether its correctness reaches the success threshold (never a weighted sum with a format score)."""
    feedback: str | None
    """What the sandbox said; None or blank for a passing attempt."""


@dataclass(frozen=True)
class TeacherRules:
    """Which parts are shown, and in which words; templates are filled in one pass, values are never re-read."""

    context: Context = "peer"
    failing_only: bool = False
    """A passing attempt has no teacher (arXiv:2604.02288 routes it elsewhere)."""
    exclude_self: bool = True
    """A success is not shown its own text."""
    strip_thinking: bool = True
    """Remove thinking, in all its forms (`evaluator.answers.answer_text`), and the white space after it."""
    use_feedback: bool = True
    feedback_only_without_solution: bool = True
    """Feedback is shown only where no demonstration is."""
    template: str = "{prompt}{solution}{feedback}\n\nSolve the problem stated at the beginning."
    solution_template: str = "\n\nHere is a correct solution to this problem:\n\n{solution}"
    feedback_template: str = "\n\nAn earlier attempt at this problem failed:\n\n{feedback}"

    def __post_init__(self) -> None:
        for name, text, needed in (
            ("teacher_template", self.template, ("prompt", "solution", "feedback")),
            ("solution_template", self.solution_template, ("solution",)),
            ("feedback_template", self.feedback_template, ("feedback",)),
        ):
            for field in needed:
                if "{" + field + "}" not in text:
                    raise ValueError(
                        f"{name} must contain {{{field}}}, got {text!r}; add the field"
                    )


@dataclass(frozen=True)
class TeacherPrompt:
    """Chat messages for the teacher, and what they were made from."""

    messages: tuple[Message, ...]
    demonstration_member: int | None
    """Index, within the group, of the attempt shown as a demonstration."""
    feedback_used: bool
    reference_used: bool = False

    @property
    def context(self) -> Context:
        """What is shown; feedback may stand beside a solution, see `feedback_used`."""
        if self.demonstration_member is not None:
            return "peer"
        if self.reference_used:
            return "reference"
        return "feedback" if self.feedback_used else "nothing"


@dataclass(frozen=True)
class Coverage:
    """How much the teacher of a rollout batch has to say; fractions in 0..1."""

    success_group_fraction: float
    solution_fraction: float
    feedback_available_fraction: float
    feedback_used_fraction: float
    reprompted_fraction: float


def teacher_prompts(
    messages: Sequence[Message],
    attempts: Sequence[Attempt],
    rules: TeacherRules,
    *,
    reference: str | None = None,
    n_tokens: Callable[[Sequence[Message]], int] = lambda _: 0,
    max_tokens: int = 10_240,
) -> list[TeacherPrompt | None]:
    """Teacher prompts of one group; None where there is neither a demonstration nor feedback to show.

    `reference` is the problem's reference solution as an answer, which the context "reference" shows.

    Too long a prompt has its feedback, then its demonstration shortened before the template is filled;
    the problem and the template's own words are never cut. One that is too long even so is None.

    Raises:
        ValueError: the context is "reference" and there is none.
    """
    if rules.context == "reference" and reference is None:
        raise ValueError("teacher_context reference must have a reference solution, got none")
    return [
        None
        if rules.failing_only and attempt.success
        else _teacher_prompt(
            messages,
            attempts,
            index,
            rules,
            reference=reference,
            n_tokens=n_tokens,
            max_tokens=max_tokens,
        )
        for index, attempt in enumerate(attempts)
    ]


def demonstration(text: str, *, special_tokens: Sequence[str], strip_thinking: bool) -> str:
    """Return a completion as a peer may be shown it: text that spells a special token is broken up.

    A policy that writes `<|im_end|>` letter by letter must not end a turn of the teacher's prompt. Thinking goes
    first: its tags may be special tokens, and without it two halves of one may come together.
    """
    shown = _broken_up(without_thinking(text) if strip_thinking else text, special_tokens)
    if shown == text:
        return shown
    return demonstration(shown, special_tokens=special_tokens, strip_thinking=strip_thinking)


def _broken_up(text: str, special_tokens: Sequence[str]) -> str:
    seen = without_unseen(text)
    # Characters that show nothing are the answer's own, unless they hold a token together.
    return take_apart(text if take_apart(seen, special_tokens) == seen else seen, special_tokens)


def coverage(
    groups: Sequence[tuple[Sequence[Attempt], Sequence[TeacherPrompt | None]]], rules: TeacherRules
) -> Coverage:
    """Fractions over the groups and members of a rollout batch."""
    prompts = [prompt for _, members in groups for prompt in members]
    attempts = [attempt for members, _ in groups for attempt in members]
    n = max(len(prompts), 1)
    return Coverage(
        success_group_fraction=sum(any(a.success for a in members) for members, _ in groups)
        / max(len(groups), 1),
        solution_fraction=sum(_shows_solution(prompt) for prompt in prompts) / n,
        feedback_available_fraction=sum(_has_feedback(a, rules) for a in attempts) / n,
        feedback_used_fraction=sum(p is not None and p.feedback_used for p in prompts) / n,
        reprompted_fraction=sum(p is not None for p in prompts) / n,
    )


def _shows_solution(prompt: TeacherPrompt | None) -> bool:
    return prompt is not None and (prompt.demonstration_member is not None or prompt.reference_used)


def _teacher_prompt(
    messages: Sequence[Message],
    attempts: Sequence[Attempt],
    index: int,
    rules: TeacherRules,
    *,
    reference: str | None,
    n_tokens: Callable[[Sequence[Message]], int],
    max_tokens: int,
) -> TeacherPrompt | None:
    if rules.context == "nothing":
        return TeacherPrompt(tuple(messages), demonstration_member=None, feedback_used=False)
    demonstrator = _demonstrator(attempts, index, rules)
    solution = None if demonstrator is None else _demonstration(attempts[demonstrator], rules)
    if rules.context == "reference":
        solution = reference
    feedback = attempts[index].feedback if _has_feedback(attempts[index], rules) else None
    if solution is not None and rules.feedback_only_without_solution:
        feedback = None

    def render(solution: str | None, feedback: str | None) -> tuple[Message, ...]:
        return _render(messages, solution, feedback, rules)

    def fits(solution: str | None, feedback: str | None) -> bool:
        return n_tokens(render(solution, feedback)) <= max_tokens

    if feedback is not None and not fits(solution, feedback):
        feedback = _longest(feedback, lambda text: fits(solution, text))
    if solution is not None and not fits(solution, feedback):
        solution = _longest(solution, lambda text: fits(text, feedback))
    if solution is None and feedback is None:
        return None
    return TeacherPrompt(
        messages=render(solution, feedback),
        demonstration_member=None if solution is None else demonstrator,
        feedback_used=feedback is not None,
        reference_used=rules.context == "reference" and solution is not None,
    )


def _demonstrator(attempts: Sequence[Attempt], index: int, rules: TeacherRules) -> int | None:
    if rules.context != "peer":
        return None
    for member, attempt in enumerate(attempts):
        if rules.exclude_self and member == index:
            continue
        # one that is empty, or nothing but thought, shows nothing
        if attempt.success and _demonstration(attempt, rules).strip():
            return member
    return None


def _demonstration(attempt: Attempt, rules: TeacherRules) -> str:
    return without_thinking(attempt.text) if rules.strip_thinking else attempt.text


def _has_feedback(attempt: Attempt, rules: TeacherRules) -> bool:
    return rules.use_feedback and attempt.feedback is not None and attempt.feedback.strip() != ""


def _render(
    messages: Sequence[Message], solution: str | None, feedback: str | None, rules: TeacherRules
) -> tuple[Message, ...]:
    content = _fill(
        rules.template,
        prompt=messages[-1]["content"],
        solution="" if solution is None else _fill(rules.solution_template, solution=solution),
        feedback="" if feedback is None else _fill(rules.feedback_template, feedback=feedback),
    )
    return (*messages[:-1], {"role": "user", "content": content})


def _fill(template: str, **values: str) -> str:
    """Put values into a template in one pass: braces inside a value are text."""
    return re.sub(r"\{(\w+)\}", lambda field: values.get(field[1], field[0]), template)


def _longest(text: str, fits: Callable[[str], bool]) -> str | None:
    """The longest head and tail of `text` that fits, or None where not even a fragment does."""
    low, high = 0, len(text)  # invariant: `low` characters fit or are none, `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(_shortened(text, middle)) else (low, middle)
    return _shortened(text, low) if low else None


def _shortened(text: str, n: int) -> str:
    """`n` characters of `text`: the beginning, a mark, and the end, where an exception's name stands."""
    head = (n + 1) // 2
    return text[:head] + _CUT + text[len(text) - (n - head) :] if n < len(text) else text
