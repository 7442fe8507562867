"""What is the same output and what is not."""

import pytest

from sandbox.judge.comparison import first_difference
from sandbox.program import Comparison

TEXT, NUMBERS, CLOSE = (
    Comparison(),
    Comparison(tolerance=0.0, indent=False),
    Comparison(tolerance=1e-6),
)


@pytest.mark.parametrize(
    ("got", "expected", "comparison"),
    [
        ("1\n", "1", TEXT),
        ("1  \n2\t\n\n\n", "1\n2", TEXT),
        ("1\r\n2\r\n", "1\n2\n", TEXT),
        ("", "\n", TEXT),
        ("  a\n", "a", NUMBERS),
        ("1.0 2", "1 2.00", NUMBERS),
        ("1e2", "100", NUMBERS),
        ("0.3000001", "0.3", CLOSE),
        ("1000000.5", "1000000", CLOSE),
        ("yes 0.5", "yes 0.5000000001", CLOSE),
        ("nan", "nan", CLOSE),
        ("1e999999", "1e999999", CLOSE),
    ],
)
def test_these_are_the_same(got, expected, comparison):
    assert first_difference(got, expected, comparison) is None


@pytest.mark.parametrize(
    ("got", "expected", "comparison", "line"),
    [
        ("1.0", "1", TEXT, 1),
        (" 1", "1", TEXT, 1),
        ("a\n\nb", "a\nb", TEXT, 2),
        ("1\n2", "1\n2\n3", TEXT, 3),
        ("1\n2\n3", "1\n2", TEXT, 3),
        ("", "1", TEXT, 1),
        ("1", "", TEXT, 1),
        ("1 2", "1 2 3", NUMBERS, 1),
        ("0.30001", "0.3", CLOSE, 1),
        ("nan", "0", CLOSE, 1),
        ("inf", "1e400", CLOSE, 1),
        ("1e999999", "2e999999", CLOSE, 1),
        ("\u0661", "1", NUMBERS, 1),
        ("1_0", "10", NUMBERS, 1),
        ("9" * 401, "9" * 400 + "8", NUMBERS, 1),
        ("True", "1", CLOSE, 1),
    ],
)
def test_these_differ_in_that_line(got, expected, comparison, line):
    assert first_difference(got, expected, comparison).line == line


def test_an_output_of_a_million_words_takes_no_second():
    import time

    text = "1.5 " * 300_000
    start = time.process_time()
    assert first_difference(text + "x", text + "y", CLOSE).line == 1
    assert time.process_time() - start < 3.0
