"""The unbiased pass@k estimator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the estimated chance that at least one of k completions passes, 0..1.

    1 - C(n - c, k) / C(n, k): the share of k-subsets of the n drawn that hold a passing one.

    Args:
        n: completions drawn.
        c: of these, how many passed.
        k: completions that a user would draw.

    Raises:
        ValueError: the counts cannot be.
    Source: arXiv:2107.03374, section 2.1, equation 1.
    """
    return float(pass_at_k_each([n], [c], k)[0])


def pass_at_k_each(n: Sequence[int], c: Sequence[int], k: int) -> NDArray[np.float64]:
    """Return pass@k of each problem, 0..1; see `pass_at_k`."""
    n_drawn, n_passed = np.asarray(n, dtype=np.int64), np.asarray(c, dtype=np.int64)
    if k < 1 or (n_drawn < k).any():
        raise ValueError(
            f"k must lie between 1 and the completions of each problem, got k = {k} with as few as "
            f"{int(n_drawn.min(initial=0))}; draw more or lower k"
        )
    if n_drawn.shape != n_passed.shape or (n_passed < 0).any() or (n_passed > n_drawn).any():
        raise ValueError(
            f"passes must lie between 0 and the completions of a problem, got {c!r} of {n!r}; "
            "count them again"
        )
    # prod over i of (n - c - i) / (n - i): each factor lies in 0..1, so nothing overflows, and it
    # is exactly 0 where fewer than k completions failed.
    none_passes = np.ones(n_drawn.shape, dtype=np.float64)
    for i in range(k):
        none_passes *= np.maximum(n_drawn - n_passed - i, 0) / (n_drawn - i)
    return 1.0 - none_passes
