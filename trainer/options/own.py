"""What a person brings to a training run: loaded and tried before anything heavy, and recorded with it.

The checks of a resumed run raise a ConfigError with one line for the user.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from analysis.journal.journal import read_run_info
from analysis.provenance import Content
from analysis.records import RunInfo
from evaluator.answers.extract import extract
from evaluator.grading.feedback import feedback
from evaluator.grading.grade import Grade, nothing_ran
from evaluator.grading.reward import reward
from evaluator.problems.problem import Problem
from evaluator.problems.prompt_file import template_protocol
from evaluator.problems.user_code import UserFunction, load_function, read_template
from trainer.options.config import BenchConfig, ConfigError


@dataclass(frozen=True)
class Own:
    """Functions in the place of ours, and the sha256 of all that was brought."""

    reward: UserFunction | None
    feedback: UserFunction | None
    chat_template_sha256: str | None

    @property
    def recorded(self) -> dict[str, str]:
        """What the run's record says of it."""
        said: dict[str, str] = {}
        for what, function in (("reward", self.reward), ("feedback", self.feedback)):
            if function is not None:
                said |= {f"{what}_function": function.name, f"{what}_sha256": function.sha256}
        if self.chat_template_sha256 is not None:
            said["chat_template_sha256"] = self.chat_template_sha256
        return said


def load_own(bench: BenchConfig, problem: Problem) -> Own:
    """Load what the options of a training run name, see `load_parts`."""
    if bench.prompt_template is not None:
        template_protocol(Path(bench.prompt_template), "all")
    path = None if bench.chat_template is None else Path(bench.chat_template)
    return load_parts(
        problem, reward_name=bench.reward, feedback_name=bench.feedback, chat_template=path
    )


def load_parts(
    problem: Problem,
    *,
    reward_name: str | None = None,
    feedback_name: str | None = None,
    chat_template: Path | None = None,
) -> Own:
    """Load what is named, and try the functions on an empty answer to a problem.

    Raises:
        UserCodeError: something of it cannot be used.
    """
    template = None
    if chat_template is not None:
        template = read_template(chat_template, option="chat_template")
    own = Own(
        reward=None if reward_name is None else load_function(reward_name, option="reward"),
        feedback=None if feedback_name is None else load_function(feedback_name, option="feedback"),
        chat_template_sha256=template and hashlib.sha256(template.encode()).hexdigest(),
    )
    empty = Grade(problem, "", extract("", problem.callables), nothing_ran(problem))
    if own.reward is not None:
        reward(empty, function=own.reward)
    if own.feedback is not None:
        feedback(empty, function=own.feedback)
    return own


def check_same_problems(info: RunInfo, problems: Content) -> None:
    """Refuse to go on with a run with other problems than it began with."""
    if info.dataset_sha256 not in (None, problems.sha256):
        raise ConfigError(
            f"a resumed run must ask the problems it began with, got others in {problems.name}; restore them"
        )


def check_same_words(info: RunInfo, protocol: Content) -> None:
    """Refuse to ask the problems of a run in other words than it began with."""
    if info.protocol_sha256 not in (None, protocol.sha256):
        raise ConfigError(
            f"a resumed run must ask in the words it began with, got others in {protocol.name}; restore the prompt "
            "template"
        )


def check_unchanged(run_dir: Path, own: Own) -> None:
    """Refuse to go on with a run under another reward, feedback or chat template than it began with."""
    info = read_run_info(run_dir)
    for name in ("reward_sha256", "feedback_sha256", "chat_template_sha256"):
        before, now = getattr(info, name), own.recorded.get(name)
        if before != now:
            raise ConfigError(
                f"a resumed run must have the {name.removesuffix('_sha256')} it began with, got sha256 {now} for "
                f"{before}; restore the file"
            )
