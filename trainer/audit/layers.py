"""What each layer of an audit comes to: the number of its checks, the worst of them, whether all passed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from analysis.records import Audit


@dataclass(frozen=True)
class Layer:
    """What one layer found over a run."""

    name: str
    n_checks: int
    worst: str
    """Name of the check whose deviation is largest in units of its own threshold; empty without a check."""
    largest: float
    """Its deviation; NaN counts as infinite."""
    threshold: float
    """Its threshold."""
    passed: bool


def unchecked(name: str) -> Layer:
    """A layer that never ran, which has not passed."""
    return Layer(name, 0, "", float("nan"), float("nan"), passed=False)


def with_check(layer: Layer, row: Audit) -> Layer:
    """A layer's summary with one check more."""
    passed = row.passed and (layer.passed or not layer.n_checks)
    layer = replace(layer, n_checks=layer.n_checks + 1, passed=passed)
    if layer.n_checks > 1 and _excess(row.delta, row.threshold) <= _excess(
        layer.largest, layer.threshold
    ):
        return layer
    return replace(layer, worst=row.layer, largest=row.delta, threshold=row.threshold)


def _excess(delta: float, threshold: float) -> float:
    """A check's deviation in units of its threshold; one without tolerance passes with 0 only."""
    if delta != delta:
        return float("inf")
    if threshold:
        return delta / threshold
    return float("inf") if delta else 0.0
