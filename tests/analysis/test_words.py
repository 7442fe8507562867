"""What people read of a number never says none of some, nor all of not all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.words import percent, short


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        *((0.0, "0.0%"), (1.0, "100.0%"), (0.058, "5.8%"), (1 / 3000, "0.03%")),
        *((2999 / 3000, "99.97%"), (1 / 30000, "0.003%"), (1 - 1e-16, "100.0%"), (0.9994, "99.9%")),
        *((sum([0.1] * 10), "100.0%"), (0.99951, "99.95%")),
    ],
)
def test_a_rate_has_as_many_decimals_as_it_takes(rate, shown):
    assert percent(rate) == shown


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_none_and_all_are_said_of_none_and_all_alone(counted):
    k, n = counted
    for decimals in (0, 1):
        shown = float(percent(k / n, decimals=decimals).rstrip("%"))
        assert (shown == 0) == (k == 0) and (shown == 100) == (k == n)


def test_a_number_below_1_is_not_shown_as_1():
    assert short(0.99996) == "0.99996"
    assert [short(x) for x in (1.0, 0.9999, 0.123456, 1.00001)] == ["1", "0.9999", "0.1235", "1"]
