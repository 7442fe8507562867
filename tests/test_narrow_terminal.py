"""On a terminal of 80 columns, or fewer, every number of every table is there, whole and on one line."""

import io
import random
import re

import pytest
from rich.console import Console

from analysis.render import Result, print_table
from evaluator.cli import terminal

WIDTHS = (40, 60, 80, 100, 120)


def narrow(width):
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


def shown(console):
    return console.file.getvalue()


def whole(text, number):
    return re.search(rf"(?<![\w.,]){re.escape(number)}(?![\w.,%])", text)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_of_results_keeps_its_numbers(width):
    draw = random.Random(width)
    for n_columns in range(1, 16):
        columns, row = [], []
        for i in range(n_columns):
            columns.append("c" * draw.randint(1, 25) + str(i))
            value = draw.choice(
                [draw.random(), draw.randint(0, 10 ** draw.randint(1, 15)), "text " * 9]
            )
            row.append(value)
        console = narrow(width)
        print_table(Result(tuple(columns), [tuple(row)]), console=console)
        text = shown(console)
        for value in row:
            if isinstance(value, float):
                assert whole(text, f"{value:.4g}"), (width, row, text)
            if isinstance(value, int):
                assert whole(text, str(value)), (width, row, text)
        assert max(map(len, text.splitlines())) <= width or n_columns < 16


def test_characters_of_double_width_are_whole_where_there_is_room():
    console = narrow(80)
    print_table(Result(("label", "n"), [("größe–雪雪", 3)]), console=console)
    assert "größe–雪雪  3" in shown(console)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("wrapping", [None, "what it is called"])
def test_a_table_of_an_evaluation_keeps_its_numbers(width, wrapping, monkeypatch):
    draw = random.Random(width)
    for n_columns in range(1, 12):
        headings = ["what it is called", *(f"column {i}" for i in range(n_columns))]
        cells = [f"{draw.uniform(0, 100):.1f}%" for _ in range(n_columns)]
        console = narrow(width)
        monkeypatch.setattr(terminal, "console", lambda console=console: console)
        terminal.print_table(headings, [["a label of some length " * 2, *cells]], wrapping=wrapping)
        text = shown(console)
        for cell in cells:
            assert whole(text, cell), (width, cells, text)
