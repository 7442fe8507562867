"""The parts of a text to the letter, and the lines of code in prose."""

import pytest

from evaluator.answers.answer_text import answer_text, without_thinking
from evaluator.answers.bare_code import _is_statement, _line_end, code_runs, leading_lines
from evaluator.answers.blocks import Block, _Fence, _is_deeper, split_blocks
from evaluator.answers.extract import extract


def parts(text, is_program=lambda before: False):
    return [(block.text, block.fenced) for block in split_blocks(text, is_program)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ab\n```python\nx = 1\n```\ncd", [("ab\n", False), ("x = 1", True), ("\ncd", False)]),
        ("ab\n> ```\n> x = 1\n> ```", [("ab\n", False), ("x = 1", True)]),
        ("> ```\n> > x\n> ```", [("> x", True)]),
        ("ab: ```\nx = 1\n```", [("ab: ", False), ("x = 1", True)]),
        (" \n\n```\nx = 1\n```\n \n", [("x = 1", True)]),
        ("~~~\nx = 1  # ~~~\ny = 2\n~~~", [("x = 1  # ~~~\ny = 2", True)]),
        ("~~~\nx = 1\n~~~ and\ny = 2\n~~~", [("x = 1\n~~~ and\ny = 2", True)]),
        ("ab ~~~\nx = 1\n", [("ab ~~~\nx = 1\n", False)]),
        ("```\n```\n```\n```", [("", True), ("", True)]),
    ],
)
def test_a_text_falls_into_its_parts_and_blank_ones_are_none(text, expected):
    assert parts(text) == expected


def test_a_block_without_its_end_is_open_and_may_hold_prose():
    (block,) = split_blocks("```python\nx = 1\nand so on", lambda before: False)
    assert block == Block("x = 1\nand so on", fenced=True, closed=False, mixed=True)


def test_a_mark_four_columns_deeper_or_behind_text_does_not_close_a_string():
    fence = _Fence("  ", 0, 5, "python", "", bare=False)
    assert [_is_deeper(before, fence) for before in ("  ", "     ", "      ", "\t", "\t\t", "x", "> ")] == [
        False, False, True, False, True, True, False,
    ]  # fmt: skip


def test_the_lines_at_the_beginning_that_may_be_a_body():
    text = "    x = 1\n\n    y = (\n1)\n\tz = 2\nThat is all.\n    w = 3"
    assert leading_lines(text) == "    x = 1\n\n    y = (\n1)\n\tz = 2"
    assert leading_lines('    """a\nb\n    """\nc') == '    """a\nb\n    """'
    assert leading_lines("prose\n    x = 1") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See:\nx = 1\n   \n\t\n", ["x = 1"]),
        ("See:\nx = 1\n\ny = 2\nThat is all.\n", ["x = 1\n\ny = 2"]),
        ("    if you like:\n    go there now\n", []),
        ("    if x:\n        y = 1\nThat is all.\n", ["if x:\n    y = 1"]),
        ("\nx = 1", ["x = 1"]),
    ],
)
def test_runs_of_code_in_prose_end_with_their_last_line(text, expected):
    assert list(code_runs(text)) == expected


def test_a_line_ends_at_its_break_or_with_the_text():
    assert [_line_end("\nab\nc", at) for at in (0, 1, 2, 4)] == [0, 3, 3, 5]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("I don't <think>a</think>and can't", "I don't and can't"),
        ("as is<think>a</think>n't", "as isn't"),
        ("of his '<think>a</think>'", "of his '<think>a</think>'"),
        ("in as'<think>a</think>s'", "in as's'"),
        ("in r'<think>a</think>'", "in r'<think>a</think>'"),
    ],
)
def test_an_apostrophe_quotes_no_tag(text, left):
    assert without_thinking(text) == left


def test_a_mark_in_brackets_is_cut_unless_the_program_uses_its_name():
    assert answer_text("[BEGIN]x[DONE]").turns == ("\nx",)
    assert answer_text("[CODE]x[/CODE]").turns == ("\nx\n",)
    assert answer_text("y[END] + END").turns == ("y[END] + END",)
    assert answer_text("y[/END] + END").turns == ("y[/END] + END",)


def test_a_name_that_several_blocks_bind_comes_from_the_last():
    blocks = ["K = 1", "K = 2", "def add(a):\n    return a + K"]
    found = extract("\n".join(f"```\n{block}\n```" for block in blocks), ("add",))
    assert found.code == "K = 2\n\ndef add(a):\n    return a + K"
    assert found.n_blocks == 3


def test_thinking_alone_has_no_block():
    found = extract("<think>\n```\nx = 1\n```\n", ("add",))
    assert (found.code, found.n_blocks) == (None, 0)


@pytest.mark.parametrize(
    ("after", "expected"), [("        y = 1", True), ("    y = 1", False), ("y = 1", False)]
)
def test_a_line_that_opens_a_block_is_code_where_what_follows_stands_deeper(after, expected):
    line = "    if x:"
    assert _is_statement(f"{line}\n{after}\n", 0, len(line)) is expected
