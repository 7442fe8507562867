"""Says in sentences what the asserts show of a program: for whoever wrote it, be it a model.

The program's own words stand in them, on one line each and bounded; a prompt needs more care
(`evaluator.grading.feedback`).
"""

from __future__ import annotations

from collections.abc import Sequence

from sandbox.program import AssertResult, Verdict

HIDDEN = "a hidden test"
"""The call and the assert of a result whose input and values must not be told."""

_MAX_SHOWN = 3
"""Failing asserts that are described one by one."""

_PART_CHARS = 200
"""Bound of one quoted part: a value, a message, a line of code."""


def sentences(code: str, results: Sequence[AssertResult]) -> list[str]:
    """Return lines that describe what failed; none where every assert passed.

    Args:
        code: the program, of which the lines that errors point at are quoted.
        results: its asserts' results.
    """
    failing = [r for r in results if not (r.trusted and r.verdict is Verdict.PASSED)]
    if not failing:
        return []
    reached = [result for result in failing if result.verdict is not Verdict.NOT_RUN]
    lines = [f"{len(failing)} of {len(results)} tests fail."]
    shown = _distinct(reached)[:_MAX_SHOWN]
    for result in shown:
        lines += _described(result, code)
    n_alike = len(reached) - len(shown)
    if n_alike:
        lines.append(f"{n_alike} more fail{'s' if n_alike == 1 else ''} in a similar way.")
    n_not_reached = len(failing) - len(reached)
    if n_not_reached:
        lines.append(f"{n_not_reached} {'was' if n_not_reached == 1 else 'were'} not reached.")
    return lines


def _distinct(failing: Sequence[AssertResult]) -> list[AssertResult]:
    """One result of each cause, in order: a syntax error fails every assert alike."""
    by_cause: dict[tuple[object, ...], AssertResult] = {}
    for result in failing:
        if result.verdict is Verdict.FAILED:
            cause: tuple[object, ...] = (result.assertion,)
        else:
            cause = (result.verdict, result.exception, result.line)
        by_cause.setdefault(cause, result)
    return list(by_cause.values())


def _described(result: AssertResult, code: str) -> list[str]:
    # Without a call the program itself failed, before any test could call it.
    call = _part(result.call) if result.call is not None else "the program"
    match result.verdict:
        case Verdict.FAILED:
            got = _part(result.got) if result.got is not None else "something else"
            if result.call is None:
                return [f"- {_part(result.assertion)} does not hold."]
            if result.assertion == HIDDEN:
                return [f"- {HIDDEN} gave a wrong result."]
            if result.expected is None:
                return [f"- {call} gave {got}, but {_part(result.assertion)} must hold."]
            return [f"- {call} gave {got}, expected {_part(result.expected)}."]
        case Verdict.ERROR:
            name = _part(result.exception or "an error")
            message = f": {_part(result.message)}" if result.message else ""
            return [f"- {call} raised {name}{message}", *_source_line(result, code)]
        case Verdict.TIMEOUT:
            return [f"- {call} did not end within the time limit.", *_source_line(result, code)]
        case Verdict.MEMORY:
            return [f"- {call} used more memory than allowed.", *_source_line(result, code)]
        case Verdict.CRASHED:
            return [f"- {call} ended the whole process instead of returning a value."]
        case Verdict.UNJUDGED:
            return [
                f"- {call} gave something that cannot be compared: {_part(result.message or '')}."
            ]
        case Verdict.NOT_RUN | Verdict.PASSED:
            # A pass stands among the failures only where it is not trusted.
            return [f"- {_part(result.assertion)} can only be judged by the answer itself."]


def _source_line(result: AssertResult, code: str) -> list[str]:
    """The line of the solution that the error points at, with its number."""
    lines = code.split("\n")
    if result.line is None or not 1 <= result.line <= len(lines):
        return []
    return [f"  line {result.line}: {_part(lines[result.line - 1].strip())}"]


def _part(text: str) -> str:
    """A quoted part on one line, bounded, its end kept: a message often closes with the point."""
    flat = text.replace("\r", " ").replace("\n", "\\n").strip()
    if len(flat) <= _PART_CHARS:
        return flat
    head = _PART_CHARS * 2 // 3
    return f"{flat[:head]} ... {flat[head + 5 - _PART_CHARS :]}"
