"""Ticks of a log axis, which has no zero."""

from analysis.charts.style import powers_of_ten


def test_a_value_of_zero_takes_no_part():
    assert powers_of_ten([0.0, 0.3, 20.0]) == [0.1, 1.0, 10.0, 100.0]


def test_without_any_positive_value_there_are_ticks_all_the_same():
    assert powers_of_ten([0.0]) == [1.0, 10.0]
