"""How long the long tests are: SDPO_BENCH_SCALE is a share of their full numbers, 1 where it is not set."""

import os


def scaled(n):
    """That share of `n`, at least 2."""
    return max(2, round(n * float(os.environ.get("SDPO_BENCH_SCALE", "1"))))
