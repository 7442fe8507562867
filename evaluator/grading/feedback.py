"""Turns a grade into bounded, harmless text that says what went wrong, for the SDPO teacher.

The candidate's code writes part of it (exception messages, values, its own lines), and it enters a
prompt: control characters and whatever could read as a chat template's token are taken apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace

from evaluator.grading.grade import Grade
from evaluator.models.objects import Tokenizer
from evaluator.problems.user_code import UserCodeError
from sandbox.judge.explain import HIDDEN, sentences
from sandbox.program import AssertResult, Verdict

MAX_CHARS = 1200
"""Default bound of a whole feedback text, in characters: about 300 tokens."""

_TAG = re.compile(
    r"[<\uff1c\ufe64](?=[|\uff5c]|/?[^\s<>]{1,80}[>\uff1e\ufe65])"
    r"|(?<=[|\uff5c])[>\uff1e\ufe65]"
    r"|[\[\uff3b](?=/?(?=\w{2,80}[\]\uff3d])(?:\w*[A-Z]\w*[A-Z]|"
    r"(?:control|unused|reserved|special|extra_id|token)_?\d+\b|(?:cls|sep|pad|unk|mask|bos|eos)\b))"
    r"|>(?=>[A-Z_]+<<)|\|(?=\|\|[A-Z_]+\|\|\|)"
)
"""Where a chat token can begin or end: `<|im_start|>`, `</s>`, `<fim-prefix>`, `[INST]`, `[gMASK]`, `[unused1]`,
`>>TITLE<<`; the brackets' wide forms too, which some tokenizers read as the plain ones."""

_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that show nothing and stand in no control category (Unicode's Default_Ignorable_Code_Point): a
tokenizer that drops them would put together what they hold apart."""


def feedback(
    grade: Grade,
    *,
    max_chars: int = MAX_CHARS,
    special_tokens: Sequence[str] = (),
    hidden: bool = True,
    function: Callable[[Grade, str], object] | None = None,
) -> str | None:
    """Return what the sandbox says of a completion, at most `max_chars` long; None for a pass.

    Args:
        grade: the graded completion.
        max_chars: bound of the text; a longer one keeps its beginning.
        special_tokens: of the tokenizer that will read it (`control_tokens`), beside the usual ones.
        hidden: say of hidden tests only how they failed, as a policy may read it.
        function: a person's own, from grade and completion to a text or None; its text is bounded and made harmless
            like ours.

    Raises:
        ValueError: max_chars leaves no room for a sentence.
        UserCodeError: the function raised, or returned no text.
    """
    if max_chars < 80:
        raise ValueError(f"max_chars must be at least 80, got {max_chars!r}; raise it")
    if grade.passed:
        return None
    if function is None:
        said = "\n".join(_lines(grade, hidden=hidden))
    else:
        found = function(grade, grade.completion)
        if found is not None and not isinstance(found, str):
            name = getattr(function, "name", "the feedback")
            raise UserCodeError(
                f"{name} must return a text or None, got {found!r:.100}; return one of these"
            )
        said = found or ""
    text = neutralise(said, special_tokens=special_tokens)
    return _cut(text, max_chars) if text.strip() else None


def neutralise(text: str, *, special_tokens: Sequence[str] = ()) -> str:
    """Return text from a model as a prompt can hold it: readable, and no token of a chat template.

    A space goes in after the opening character of whatever looks like such a token; control,
    format, surrogate, private and unseen characters are dropped, but line breaks and tabs stay.
    """
    kept = take_apart(without_unseen(text), special_tokens)
    return _TAG.sub(lambda found: f" {found[0]}" if _closes(found) else f"{found[0]} ", kept)


def _closes(found: re.Match[str]) -> bool:
    """Whether the character ends a token `|>`, so that the space goes before it."""
    before = found.string[found.start() - 1 : found.start()]
    return found[0] in ">\uff1e\ufe65" and before in ("|", "\uff5c")


def without_unseen(text: str) -> str:
    """Return text without control, format, surrogate, private and unseen characters but line breaks and tabs."""
    kept = "".join(char for char in text if char in "\n\t" or unicodedata.category(char)[0] != "C")
    return _UNSEEN.sub("", kept)


def take_apart(text: str, tokens: Sequence[str]) -> str:
    """Return text that holds none of these tokens: a space stands after the first character of each.

    Tokens of one character, and those of blanks alone, are left: they end nothing, and code is made of them.
    """
    words = sorted({token.strip() for token in tokens}, key=len, reverse=True)
    words = [word for word in words if len(word) > 1]
    # Again until none is left: one may overlap itself ("aa" in "aaa"), or be what another one becomes.
    while found := next((word for word in words if word in text), None):
        text = text.replace(found, f"{found[0]} {found[1:]}")
    return text


def control_tokens(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return what a tokenizer reads as one token wherever it stands: its special tokens and all that were added."""
    return tuple(sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}))


def _lines(grade: Grade, *, hidden: bool) -> list[str]:
    """The feedback before it is made harmless and cut."""
    code = grade.extraction.code
    if code is None:
        return [
            f"The answer holds no program: {grade.extraction.reason}. "
            "Answer with the code in one Python code block."
        ]
    n_visible = grade.problem.n_visible if hidden else grade.n_asserts
    results = [
        result if index < n_visible else _without_values(result)
        for index, result in enumerate(grade.execution.results)
    ]
    return sentences(code, results) or ["The answer could not be judged by any test."]


def _without_values(result: AssertResult) -> AssertResult:
    """A result of which only the kind of failure may be told, and the answer's own line: no input and no value."""
    got = "a wrong result" if result.verdict is Verdict.FAILED else None
    return replace(result, assertion=HIDDEN, call=HIDDEN, message=None, got=got, expected=None)


def _cut(text: str, max_chars: int) -> str:
    """The text within the bound, saying so where something is left out."""
    if len(text) <= max_chars:
        return text
    mark = "\n[cut]"
    return text[: max_chars - len(mark)].rstrip() + mark
