"""The rule of who is shown what, stated a second time: what the audit holds a group's teacher prompts to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evaluator.answers.answer_text import without_thinking
from trainer.teacher.prompt import Attempt, Message, TeacherPrompt, TeacherRules


def prompt_problem(
    rules: TeacherRules,
    question: Sequence[Message],
    attempts: Sequence[Attempt],
    index: int,
    prompt: TeacherPrompt | None,
    text: str | None,
    template: Callable[[Sequence[Message]], str],
    reference: str,
    *,
    fits: Callable[[Sequence[Message]], bool],
) -> str | None:
    """Return what is wrong with one member's prompt, by the rule as the paper states it; None if nothing.

    What `fits` not into the teacher's limit is shortened or left out: then less may be shown, but nothing else.
    """
    context = rules.context
    peers = [
        j
        for j, a in enumerate(attempts)
        if context == "peer"
        and a.success
        and (j != index or not rules.exclude_self)
        and _is_answer(a, rules)
    ]
    own = attempts[index].feedback
    has_feedback = rules.use_feedback and bool(own and own.strip())
    has_solution = bool(peers) or context == "reference"
    shows_feedback = (
        has_feedback
        and context != "nothing"
        and not (has_solution and rules.feedback_only_without_solution)
    )
    if not has_solution and not shows_feedback and context != "nothing":
        return None if prompt is None else "has a prompt and must have none"
    solution = _shown(attempts[peers[0]], rules) if peers else reference if has_solution else None
    whole = _whole(rules, question, solution, own if shows_feedback else None)
    may_lack = context != "nothing" and not fits(whole)
    if prompt is None or text is None:
        return None if may_lack else "has no prompt and must have one"
    member, expected = prompt.demonstration_member, peers[0] if peers else None
    if member != expected and not (may_lack and member is None):
        return f"is shown member {member}, must be {peers[:1]}"
    if prompt.feedback_used != shows_feedback and not (may_lack and shows_feedback):
        return f"feedback shown is {prompt.feedback_used}, must be {shows_feedback}"
    if may_lack and not fits(prompt.messages):
        return "must fit into the limit of the teacher's prompt"
    if prompt.reference_used and not _holds(prompt, reference):
        return "must contain the reference solution"
    if context == "reference" and not prompt.reference_used and not may_lack:
        return "must contain the reference solution"
    if context == "nothing" and list(prompt.messages) != list(question):
        return "must be the student's own prompt"
    if list(prompt.messages[:-1]) != list(question[:-1]):
        return "earlier messages must be unchanged"
    if question[-1]["content"] not in prompt.messages[-1]["content"]:
        return "must contain the problem"
    if text != template(prompt.messages):
        return "must be the chat template applied once to its messages"
    return None


def _is_answer(attempt: Attempt, rules: TeacherRules) -> bool:
    """Whether something is left to show: an attempt may be empty, or nothing but thought."""
    return bool(_shown(attempt, rules).strip())


def _shown(attempt: Attempt, rules: TeacherRules) -> str:
    return without_thinking(attempt.text) if rules.strip_thinking else attempt.text


def _whole(
    rules: TeacherRules, question: Sequence[Message], solution: str | None, feedback: str | None
) -> list[Message]:
    """The prompt with all that is to be shown at full length."""
    parts = {"{solution}": "", "{feedback}": "", "{prompt}": question[-1]["content"]}
    if solution is not None:
        parts["{solution}"] = rules.solution_template.replace("{solution}", solution)
    if feedback is not None:
        parts["{feedback}"] = rules.feedback_template.replace("{feedback}", feedback)
    content = rules.template
    for field, part in parts.items():
        content = content.replace(field, part, 1)
    return [*question[:-1], {"role": "user", "content": content}]


def _holds(prompt: TeacherPrompt, text: str) -> bool:
    """Whether the prompt holds the text, whole or shortened in its middle."""
    content = prompt.messages[-1]["content"]
    if text in content:
        return True
    halves = ((text[: (n + 1) // 2], text[len(text) - n // 2 :]) for n in range(1, len(text)))
    return any(f"{head}\n[...]\n{tail}" in content for head, tail in halves)
