"""How long the tests are: SDPO_BENCH_SCALE is a share of the long series, a Hypothesis profile chooses the examples."""

import os

from hypothesis import settings

LONG = "long"
"""The profile of `make test-slow`: every example. Without it a quarter of them is tried."""


def register_profiles():
    """Before Hypothesis reads its option --hypothesis-profile."""
    settings.register_profile("short", max_examples=25, deadline=None)
    settings.register_profile(LONG, max_examples=100, deadline=None)
    settings.load_profile("short")


def scaled(n):
    """That share of `n`, at least 2."""
    return max(2, round(n * float(os.environ.get("SDPO_BENCH_SCALE", "1"))))


def examples(n):
    """`n` examples in the long profile, a quarter of them elsewhere."""
    return n if settings.get_current_profile_name() == LONG else max(3, n // 4)
