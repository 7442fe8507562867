"""The measurement of the loss's memory measures what it says, in a small shape."""

import pytest

from benchmarks.loss import FORMS, Shape, compare, table

ROUNDING = 3e-6
"""A log-probability of -10 is known to 1e-6 in float32, and so are the factors of the gradient."""


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.slow
def test_the_forms_agree_and_ours_holds_less():
    rows = compare(
        Shape(n_tokens=512, vocabulary=20_000, hidden=64, top_k=20, chunk_tokens=16),
        rounds=1,
        say=str,
    )
    assert [row.form for row in rows] == list(FORMS)
    by_form = {row.form: row for row in rows}
    # one float32 tensor of all logits is 39 MiB: the plain form holds several, ours none
    assert by_form["plain"].peak_bytes > 2 * 512 * 20_000 * 4
    assert by_form["ours"].peak_bytes < 512 * 20_000 * 4
    for row in rows:
        assert row.loss_delta < 1e-6 and row.gradient_delta < ROUNDING
    assert table(rows).count("\n") == 4
