"""A prompt form from a person's own file: the user's message, with fields for the problem's parts."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from evaluator.problems.prompt import Protocol, VisibleTests
from evaluator.problems.user_code import UserCodeError, read_template

FIELDS = ("text", "tests", "name")
"""What a template may hold in braces: the problem's text, its visible tests, the tested function's name."""


def template_protocol(path: Path, visible_tests: VisibleTests, *, chat: bool = True) -> Protocol:
    """Return the prompt form of a file.

    Other braces are text. Without `chat` the file is the whole prompt of a base model, up to where its answer begins.

    Raises:
        UserCodeError: it cannot be read, has no field `{text}`, or one that reads like a misspelt one.
    """
    text = read_template(path, option="prompt_template")
    for found in re.findall(r"\{(\w{3,12})\}", text):
        close = difflib.get_close_matches(found, FIELDS, n=1, cutoff=0.7)
        if found not in FIELDS and close:
            raise UserCodeError(
                f"prompt_template must hold the fields {', '.join(f'{{{name}}}' for name in FIELDS)}, got "
                f"{{{found}}} in {str(path)!r}; did you mean {{{close[0]}}}?"
            )
    if "{text}" not in text:
        raise UserCodeError(
            f"prompt_template must hold {{text}}, where the problem goes, got none in {str(path)!r}; add it"
        )
    shown: VisibleTests = visible_tests if "{tests}" in text else "none"
    return Protocol(
        f"file/{path.name}",
        version=1,
        templates={"user" if chat else "task": text},
        visible_tests=shown,
        chat=chat,
    )
