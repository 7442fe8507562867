"""Checks before step 1 that the base model solves about as many problems as it is known to.

A wrong prompt, an extraction that drops the code or a sandbox that fails everything look like a weak model,
and training on their rewards teaches nothing. The gate asks the base model a stated sample, greedily, and
refuses where even the 95 % interval of its pass@1 lies outside the band known for that model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState

from analysis.journal.journal import Journal
from analysis.statistics.intervals import wilson
from analysis.words import percent
from evaluator.evaluation.evaluate import EvalSummary, evaluate
from evaluator.problems.mbpp import ProblemSet
from evaluator.results.plausibility import suspicion
from evaluator.sampling.model import Decoding, Policy
from sandbox.client import Sandbox
from trainer.options.config import ConfigError, Options
from trainer.options.prompting import asking
from trainer.training.loading import Loaded
from trainer.training.plan import Plan, problems_of

MAX_NEW_TOKENS = 256


class Uncalibrated(Exception):
    """The base model is outside its band; the message holds the failure classes, one a line."""


@dataclass(frozen=True)
class Band:
    """Where a model's greedy pass@1 on sanitized MBPP lies under our protocol, all asserts shown, 0..1."""

    names: tuple[str, ...]
    """Parts of a hub name or folder name, lower case; the first that matches counts."""
    low: float
    high: float
    protocol: str
    """On which problems, in which form, the figure behind the band was measured."""
    measured: tuple[int, int] | None = None
    """Solved, of how many, in a run of ours under our protocol; None where there is none."""
    published: str = ""
    """A figure of others: of other problems or prompts, so only a hint."""

    @property
    def source(self) -> str:
        """What the band rests on, in one line."""
        parts = []
        if self.measured is not None:
            k, n = self.measured
            low, high = wilson(k, n)
            parts.append(
                f"measured here: {k} of {n}, {percent(k / n)} ({percent(low)} to {percent(high)}), {self.protocol}"
            )
        if self.published:
            parts.append(f"published: {self.published}")
        return "; ".join(parts)


BANDS = (
    Band(
        ("qwen2.5-coder-0.5b-instruct", "qwen-coder-0.5b"), 0.36, 0.53,
        "our protocol, greedy, 257 problems of sanitized/test, from a 4-bit file",
        measured=(114, 257),
        published="52.4 % on evalplus' MBPP, 378 other problems and another prompt (arXiv:2409.12186)",
    ),
    Band(
        ("qwen2.5-0.5b-instruct",), 0.25, 0.65, "not measured under our protocol",
        published="49.6 % on MBPP with other prompts (arXiv:2412.15115), so the band is wide",
    ),
    Band(
        ("smollm2-135m",), 0.05, 0.32,
        "our protocol, greedy, the first 32 problems of sanitized/test: few, so the band is wide",
        measured=(5, 32),
    ),
)  # fmt: skip
"""The models that the configurations and the documentation name. A band holds the 95 % interval of what was
measured, and a few points more for another number format or machine."""


def band_of(model_name: str) -> Band | None:
    """The band of a model by its hub name or its folder's name; None for one that is not known."""
    name = Path(model_name).name.lower()
    return next((band for band in BANDS if any(part in name for part in band.names)), None)


@dataclass(frozen=True)
class Calibration:
    """What a base model is asked, and where its pass@1 must lie."""

    band: Band
    problems: ProblemSet


def calibration_of(options: Options) -> Calibration | None:
    """The calibration that a run begins with; None where it is to train whatever the model does.

    Raises:
        ConfigError: nothing is known of the model, and `allow_uncalibrated` is not set.
        DatasetError: the problems could not be read.
    """
    bench, name = options.bench, str(options.model.model_name_or_path)
    if bench.allow_uncalibrated:
        return None
    band = band_of(name)
    if band is None:
        known = ", ".join(band.names[0] for band in BANDS)
        raise ConfigError(
            f"the base model's pass@1 must be known before training, got {Path(name).name!r}, which is not "
            f"among {known}; measure it with `sdpo-bench eval` and set --allow_uncalibrated true"
        )
    problems = problems_of(bench, bench.eval_dataset, bench.calibration_problems)
    return Calibration(band, problems)


def calibrate(
    calibration: Calibration,
    plan: Plan,
    loaded: Loaded,
    policy: Policy,
    sandbox: Sandbox,
    journal: Journal,
    *,
    say: Callable[[str], None],
) -> None:
    """Evaluate the base model on the sample and refuse one outside its band.

    Raises:
        Uncalibrated: its interval lies outside its band.
    """
    bench = plan.options.bench
    if PartialState().is_main_process:
        form = asking(bench, calibration.problems, plain=loaded.is_plain)
        summary = evaluate(
            calibration.problems,
            policy,
            sandbox,
            journal=journal,
            eval_id="calibration",
            label=f"{journal.info.label}: calibration",
            step=None,
            protocol=form.protocol,
            shots=form.shots,
            decoding=Decoding(max_new_tokens=MAX_NEW_TOKENS),
            batch_size=bench.eval_batch,
            timeout_s=bench.timeout_s,
        )
        judge(summary, calibration.band, name=loaded.name, say=say)
    PartialState().wait_for_everyone()


def judge(summary: EvalSummary, band: Band, *, name: str, say: Callable[[str], None]) -> None:
    """Say that the model is within its band, or refuse with what its failures look like.

    Raises:
        Uncalibrated: the interval lies outside the band.
    """
    rate, low, high, known_low, known_high = (
        percent(each, decimals=0)
        for each in (summary.pass_at_1, *summary.interval, band.low, band.high)
    )
    found = (
        f"base model {summary.k} of {summary.n} on {summary.dataset}, {rate} ({low} to {high}); known: "
        f"{known_low} to {known_high} ({band.source})"
    )
    if summary.interval.high >= band.low and summary.interval.low <= band.high:
        say(f"calibration: {found}")
        return
    n_failures = max(sum(summary.outcomes.values()), 1)
    lines = [
        f"the base model must be within the band known for {Path(name).name}, got {found}",
        *(
            f"  {outcome:24} {n:4}  {'#' * round(40 * n / n_failures)}"
            for outcome, n in summary.outcomes.items()
        ),
        f"likely cause: {_likely_cause(summary, band)}",
        "mend it, or set --allow_uncalibrated true to train all the same",
    ]
    raise Uncalibrated("\n".join(lines))


def _likely_cause(summary: EvalSummary, band: Band) -> str:
    if summary.interval.low > band.high:
        return "the model is another than its name says, or answers pass that must not; grade a few by hand"
    suspect = suspicion(summary.failures)
    if suspect is not None:
        return suspect.text
    return "no one failure class stands out; compare the prompt form and the model with the source"
