"""The rule of who is shown what, stated a second time: what the audit holds a group's teacher prompts to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
) -> str | None:
    """Return what is wrong with one member's prompt, by the rule as the paper states it; None if nothing."""
    context = rules.context
    peers = [
        j
        for j, a in enumerate(attempts)
        if context == "peer" and a.success and (j != index or not rules.exclude_self)
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
    if prompt is None or text is None:
        return "has no prompt and must have one"
    if prompt.demonstration_member != (peers[0] if peers else None):
        return f"is shown member {prompt.demonstration_member}, must be {peers[:1]}"
    if prompt.feedback_used != shows_feedback:
        return f"feedback shown is {prompt.feedback_used}, must be {shows_feedback}"
    if context == "reference" and not _holds(prompt, reference):
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


def _holds(prompt: TeacherPrompt, text: str) -> bool:
    """Whether the prompt holds the text, whole or shortened in its middle."""
    content = prompt.messages[-1]["content"]
    return text in content or (text[:20] in content and "[...]" in content)
