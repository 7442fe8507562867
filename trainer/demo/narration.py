"""What the demo prints at its end: a table, and one sentence for each comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from analysis.statistics.verdict import Arm, Finding, judge, p_text
from analysis.words import percent
from evaluator.cli.terminal import print_table
from evaluator.results.compare import Side
from evaluator.results.stored import StoredEval
from trainer.demo.teacher_gap import SHOWN, Reading

BASELINE = "baseline"
MACHINES = (
    "On another kind of processor the trained counts differ: sums of floating-point numbers are made in another "
    "order, one sampled token comes out otherwise, and training goes another way from there."
)
"""Why two machines do not print the same table, measured on two: see docs/demo.md."""


@dataclass(frozen=True)
class Row:
    """One policy, or one method with its seeds, on the held-out problems."""

    part: str
    solved: tuple[int, ...]
    """Of each seed."""
    n: int
    """Held-out problems."""
    seconds: float | None
    """Mean wall-clock time of training with its evaluations; None where a run of it was interrupted."""
    against_baseline: Finding | None
    """Of all its seeds together."""

    @property
    def rate(self) -> float:
        """Mean pass rate, 0..1."""
        return sum(self.solved) / len(self.solved) / self.n


@dataclass(frozen=True)
class Story:
    """What a demo found."""

    rows: tuple[Row, ...]
    between: tuple[Finding, ...]
    """SDPO and the hybrid against GRPO."""
    reading: Reading
    control: bool
    failed_layers: tuple[str, ...] | None
    """Of the audit; None where none ran."""

    def sentences(self) -> list[str]:
        """The findings, one sentence each."""
        found = [_reading_sentence(self.reading)]
        for row in self.rows:
            if row.against_baseline is not None:
                found.append(row.against_baseline.sentence + ".")
        found += [_between(comparison) for comparison in self.between]
        if self.control:
            found.append(_control_sentence(self.reading, self.rows))
        if self.failed_layers is not None:
            found.append(
                "The audit derived each stage of SDPO a second time and found no deviation."
                if not self.failed_layers
                else f"The audit found deviations in: {', '.join(self.failed_layers)}."
            )
        n_seeds = max(len(row.solved) for row in self.rows)
        found.append(
            f"{'One seed' if n_seeds == 1 else f'{n_seeds} seeds'}, one start and problems of few kinds: the "
            "figures compare these runs, not the methods in general."
        )
        found.append(MACHINES)
        return found


def tell(
    baseline: StoredEval,
    trained: Mapping[str, Sequence[StoredEval]],
    seconds: Mapping[str, Sequence[float | None]],
    reading: Reading,
    *,
    control: bool,
    failed_layers: tuple[str, ...] | None,
) -> Story:
    """Compare the last evaluations, one of each seed, of each method in `trained`."""
    start = Side(BASELINE, (baseline,)).arm()
    arms = [Side(method, tuple(found)).arm() for method, found in trained.items()]
    grpo = [arm for arm in arms if arm.label == "grpo"]
    others = [arm for arm in arms if arm.label != "grpo"] if grpo else []
    # all in one, so that Holm's correction is over all that is said
    found = judge([(start, arm) for arm in arms] + [(grpo[0], arm) for arm in others])
    against, between = found[: len(arms)], found[len(arms) :]
    rows = [Row(BASELINE, _solved(start), len(start.task_ids), None, None)]
    for arm, finding in zip(arms, against, strict=True):
        times = [x for x in seconds[arm.label] if x is not None]
        whole = len(times) == len(arm.runs)
        mean_s = sum(times) / len(times) if whole else None
        rows.append(Row(arm.label, _solved(arm), len(arm.task_ids), mean_s, finding))
    return Story(tuple(rows), tuple(between), reading, control, failed_layers)


def _solved(arm: Arm) -> tuple[int, ...]:
    return tuple(round(sum(run.passed.values())) for run in arm.runs)


def print_story(story: Story, console: Console) -> None:
    """Two tables and the sentences."""
    _print_reading(story.reading, console)
    _print_results(story.rows, console)
    for sentence in story.sentences():
        console.print(f"- {sentence}", highlight=False, markup=False)


def _print_reading(reading: Reading, console: Console) -> None:
    console.print("Does the policy read a re-prompt? Held-out problems solved before training")
    cells = []
    for shown in SHOWN:
        low, high = reading.interval(shown)
        solved = f"{reading.solved[shown]} of {reading.n}"
        cells.append((shown, solved, f"{percent(low, decimals=0)} to {percent(high, decimals=0)}"))
    print_table(("shown beside the problem", "solved", "95 % interval"), cells, out=console)


def _print_results(rows: Sequence[Row], console: Console) -> None:
    several = max(len(row.solved) for row in rows) > 1
    console.print("Greedy pass@1 on held-out problems, before and after training")
    cells = []
    for row in rows:
        found = row.against_baseline
        cells.append(
            (
                row.part,
                ", ".join(map(str, row.solved)),
                percent(row.rate),
                "" if found is None else _points(found),
                "" if found is None else p_text(found.p_adjusted),
                "" if row.seconds is None else f"{row.seconds:.0f}",
            )
        )
    headings = ("policy", f"solved of {rows[0].n}", "pass@1", "gain, points", "p", "train s")
    print_table(headings, cells, out=console)
    console.print(
        "gain: over the baseline, 95 % interval over problems"
        + (" and seeds; p: Student's t over both" if several else "; p: exact McNemar")
        + ", after Holm's correction over all comparisons",
        highlight=False,
    )


def _points(found: Finding) -> str:
    low, high = found.interval
    return f"{100 * found.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _between(found: Finding) -> str:
    """One sentence on two methods; where SDPO is not ahead it says so."""
    if found.distinguishable or found.spoilt or found.differs:
        return found.sentence + "."
    return f"{found.second} does not beat {found.first}, nor the reverse ({found.seen})."


def _reading_sentence(reading: Reading) -> str:
    solved, n = reading.solved, reading.n
    return (
        f"Shown a correct solution the policy solves {solved['a correct solution']} of {n} in place of "
        f"{solved['nothing']}; shown a wrong one, in the same words, {solved['a wrong one']}; shown that of "
        f"another problem {solved[SHOWN[3]]}."
    )


def _control_sentence(reading: Reading, rows: Sequence[Row]) -> str:
    """Why SDPO did what it did, in the words that its figures allow."""
    solved = reading.solved
    gain = solved["a correct solution"] - solved["nothing"]
    learned = {
        row.part: row.against_baseline is not None
        and row.against_baseline.distinguishable
        and row.against_baseline.difference > 0
        for row in rows
    }
    unread = (
        "This policy never learned to use a re-prompt, and its teacher is the policy itself with"
    )
    if not (learned.get("grpo") and not learned.get("sdpo")):
        return (
            f"{unread} a solution in its prompt ({gain:+d} problems solved); what SDPO did with such a "
            "teacher stands in the table."
        )
    taught = (
        "a solution in its prompt only confuses it, and SDPO teaches that confusion"
        if gain < 0
        else "a solution in its prompt tells it little, so SDPO has little to learn from"
    )
    return (
        f"{unread} a solution in its prompt: {taught} ({solved['nothing']} of {reading.n} solved "
        f"without a solution, {solved['a correct solution']} with one). GRPO needs the rewards alone."
    )
