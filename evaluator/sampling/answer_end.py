"""Where an answer ends: the rule that stops its sampling, and the text that counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evaluator.answers.definition import parse, top_level_names
from evaluator.answers.extract import is_complete
from evaluator.problems.problem import Problem
from evaluator.problems.prompt import Protocol


def stop_rule(problem: Problem, protocol: Protocol) -> Callable[[str], bool]:
    """Return the rule that says when a completion needs no more text."""
    if protocol.stop:
        return lambda text: any(mark in text for mark in protocol.stop)
    lent = {
        name
        for text in (*problem.imports, problem.setup_code)
        if (tree := parse(text)) is not None
        for name in top_level_names(tree.body)
    }
    return lambda text: is_complete(text, problem.callables, lent)


def before_stop(text: str, marks: Sequence[str]) -> str:
    """Return a plain-text completion up to the first mark that ends it."""
    ends = [at for mark in marks if (at := text.find(mark)) >= 0]
    return text[: min(ends)] if ends else text
