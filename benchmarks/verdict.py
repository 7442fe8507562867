"""Simulates how often the verdict is wrong: false positives, coverage and power, with the verdict's own code.

    python -m benchmarks.verdict > table.md

Simulated are the passes of two sides on the same problems. An answer passes where a sum of four things falls
below a bound: the problem (shared by all), what a method makes of the problem, and chance; the bound gives
each run its own pass rate, which moves from seed to seed. `docs/statistics.md` holds the table.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from analysis.statistics.paired import crossed

EFFECT = 0.1
"""True difference of pass rates at which power is measured, 0..1; half of it at a rate of 5 %."""

SHARES = ((0.75, 0.05), (0.4, 0.1), (0.7, 0.25))
"""Of the problems, and of what a method makes of them: hard problems are hard for all; chance decides much;
the seeds of one method agree with each other."""


@dataclass(frozen=True)
class World:
    """What two sides are drawn from."""

    seeds: tuple[int, int]
    """Of each side."""
    noise: float
    """Standard deviation of a run's true pass rate between seeds, 0..1."""
    n: int
    """Problems."""
    rate: float
    """Pass rate of both sides, 0..1."""
    shared: float = 0.75
    """Share of the variance that lies in the problems and is the same for all runs, 0..1."""
    of_method: float = 0.05
    """Share of what one method makes of a problem; the rest is chance."""
    fixed: bool = False
    """Whether the first side is an untrained policy, which no seed moves."""


@dataclass(frozen=True)
class Measured:
    """What the verdict does in a world."""

    false_positives: float
    """Share of pairs without a true difference in which it names a winner, 0..1."""
    coverage: float
    """Share of 95 % intervals that hold the true difference, where there is one, 0..1."""
    power: float
    """Share of pairs with a true difference in which it names the right winner, 0..1."""


def draw(
    rng: np.random.Generator, world: World, n_pairs: int, effect: float
) -> list[NDArray[np.float64]]:
    """Draw pairs of sides.

    Returns:
        For each side 1.0 or 0.0 for passed or not, (pair, seed, problem).
    """
    problems = _normal(rng, (n_pairs, 1, world.n)) * world.shared**0.5
    sides = []
    for number, n_seeds in enumerate(world.seeds):
        rate = world.rate + effect * number
        # a rate stays well within 0 and 1: at the ends no seed can move it by five points
        noise = min(world.noise, rate / 3, (1 - rate) / 3)
        if world.fixed and number == 0:
            noise = 0.0
        rates = np.clip(rate + noise * _normal(rng, (n_pairs, n_seeds, 1)), 1e-3, 1 - 1e-3)
        method = _normal(rng, (n_pairs, 1, world.n)) * world.of_method**0.5
        chance = _normal(rng, (n_pairs, n_seeds, world.n))
        chance *= (1 - world.shared - world.of_method) ** 0.5
        sides.append((problems + method + chance < ndtri(rates)).astype(np.float64))
    return sides


def measure(world: World, *, n_pairs: int, seed: int = 0) -> Measured:
    """Judge pairs with and without a true difference."""
    rng = np.random.default_rng([seed, *map(ord, repr(world))])
    effect = EFFECT if world.rate > 0.1 else EFFECT / 2
    none = crossed(*draw(rng, world, n_pairs, 0.0), lone_is_fixed=world.fixed)
    wrong = 2 * stdtr(none.df, -np.abs(none.centre) / none.error) < 0.05
    found = crossed(*draw(rng, world, n_pairs, effect), lone_is_fixed=world.fixed)
    half = stdtrit(found.df, 0.975) * found.error
    return Measured(
        float(wrong.mean()),
        float((np.abs(found.centre - effect) <= half).mean()),
        float((found.centre > half).mean()),
    )


def worlds() -> Iterator[World]:
    """Those of the table: 2 to 5 seeds, seed noise of 0 to 5 points, 50 to 500 problems, 5 to 80 %."""
    sides = [((m, m), False) for m in (2, 3, 5)]
    sides += [((2, 5), False), ((1, 2), True), ((1, 3), True), ((1, 3), False)]
    for (seeds, fixed), noise, n, rate, shares in itertools.product(
        sides, (0.0, 0.01, 0.02, 0.05), (50, 120, 257, 500), (0.05, 0.4, 0.8), SHARES
    ):
        yield World(seeds, noise, n, rate, *shares, fixed=fixed)


def table(found: list[tuple[World, Measured]]) -> list[str]:
    """Return the table's lines: a row for each number of seeds and noise, over all problems and rates."""
    lines = [
        "| seeds | noise, points | false positives: mean | largest | coverage: mean | least | "
        "power, 120 problems | 257 | 500 |",
        f"|{' --- |' * 9}",
    ]
    rows: dict[tuple[str, float], list[tuple[World, Measured]]] = {}
    for world, measured in found:
        rows.setdefault((_name(world), world.noise), []).append((world, measured))
    for (name, noise), cells in rows.items():
        false = [each.false_positives for _, each in cells]
        covered = [each.coverage for _, each in cells]
        power = [
            np.mean([each.power for world, each in cells if world.n == n]) for n in (120, 257, 500)
        ]
        lines.append(
            f"| {name} | {100 * noise:.0f} | {np.mean(false):.1%} | {max(false):.1%} | "
            f"{np.mean(covered):.1%} | {min(covered):.1%} | "
            + " | ".join(f"{each:.0%}" for each in power)
            + " |"
        )
    return lines


def _name(world: World) -> str:
    first, second = world.seeds
    return f"untrained, {second}" if world.fixed else f"{first}, {second}"


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32)


@click.command()
@click.option("--pairs", default=2000, show_default=True, type=click.IntRange(1), help="A world.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write each world's figures to this file.",
)
def main(pairs: int, json_path: Path | None) -> None:
    """Simulate the verdict and print the table of docs/statistics.md."""
    found = [(world, measure(world, n_pairs=pairs)) for world in worlds()]
    for line in table(found):
        click.echo(line)
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(w) | asdict(m) for w, m in found], indent=1))


if __name__ == "__main__":
    main()
