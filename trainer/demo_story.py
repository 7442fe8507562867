"""What the demo says at its end: a table, and a sentence for each comparison that claims no more than it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from evaluator.compare import Comparison, Side, compare
from evaluator.stats import wilson
from evaluator.stored import StoredEval
from trainer.demo_reading import SHOWN, Reading

BASELINE = "baseline"


@dataclass(frozen=True)
class Row:
    """One policy on the held-out problems."""

    part: str
    solved: int
    n: int
    seconds: float | None
    """Of training with its evaluations; None for the baseline and for an interrupted run."""
    against_baseline: Comparison | None


@dataclass(frozen=True)
class Story:
    """What a demo found."""

    rows: tuple[Row, ...]
    between: tuple[Comparison, ...]
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
        found.append(
            "One seed and problems of few kinds: the figures compare these runs, not the methods in general."
        )
        return found


def tell(
    evaluations: Mapping[str, StoredEval],
    seconds: Mapping[str, float | None],
    reading: Reading,
    *,
    control: bool,
    failed_layers: Sequence[str] | None,
) -> Story:
    """Compare the parts' last evaluations, Holm-corrected over those against the baseline."""
    sides = [Side(part, (found,)) for part, found in evaluations.items()]
    against = {c.second: c for c in compare(sides)}
    rows = tuple(
        Row(
            side.label,
            int(side.solved[0].sum()),
            len(side.task_ids),
            seconds.get(side.label),
            against.get(side.label),
        )
        for side in sides
    )
    others = [s for s in sides if s.label not in (BASELINE, "grpo")]
    grpo = [s for s in sides if s.label == "grpo"]
    between = tuple(compare([*grpo, *others])) if grpo and others else ()
    failed = None if failed_layers is None else tuple(failed_layers)
    return Story(rows, between, reading, control, failed)


def print_story(story: Story, console: Console) -> None:
    """Two tables and the sentences."""
    console.print(_reading_table(story.reading))
    console.print(_result_table(story.rows))
    for sentence in story.sentences():
        console.print(f"- {sentence}", highlight=False, markup=False)


def _reading_table(reading: Reading) -> Table:
    table = Table(
        title="Does the policy read a re-prompt? Held-out problems solved before training"
    )
    for heading in ("shown beside the problem", "solved", "95 % interval"):
        table.add_column(heading, no_wrap=True)
    for shown in SHOWN:
        low, high = reading.interval(shown)
        table.add_row(shown, f"{reading.solved[shown]} of {reading.n}", f"{low:.0%} to {high:.0%}")
    return table


def _result_table(rows: Sequence[Row]) -> Table:
    table = Table(title="Greedy pass@1 on held-out problems; p: exact McNemar against the baseline")
    for heading in (
        "policy",
        "solved",
        "95 % interval",
        "gained",
        "lost",
        "p (Holm)",
        "train s",
    ):
        table.add_column(heading, no_wrap=True, justify="left" if heading == "policy" else "right")
    for row in rows:
        low, high = wilson(row.solved, row.n)
        found = row.against_baseline
        table.add_row(
            row.part,
            f"{row.solved} of {row.n}",
            f"{low:.0%} to {high:.0%}",
            "" if found is None else str(found.gained),
            "" if found is None else str(found.lost),
            "" if found is None or found.p_adjusted is None else f"{found.p_adjusted:.2g}",
            "" if row.seconds is None else f"{row.seconds:.0f}",
        )
    return table


def _between(comparison: Comparison) -> str:
    """One sentence on two methods; where SDPO is not ahead it says so."""
    if comparison.distinguishable:
        return comparison.sentence + "."
    p_value = 1.0 if comparison.p_adjusted is None else comparison.p_adjusted
    return (
        f"{comparison.second} does not beat {comparison.first}, nor the reverse "
        f"({comparison.gained} gained, {comparison.lost} lost, p = {p_value:.2g} after Holm's correction)."
    )


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
