"""Test-time self-distillation: SDPO on single hard problems, against more samples and against feedback in turns.

Three methods get the same number of completions of each problem from the same policy in the same words:

- best-of-n draws them all from the policy as it is;
- multi-turn answers its own failure: the sandbox's feedback is the next user message, and after some
  turns a fresh conversation begins;
- sdpo trains on the problem with `trainer.training.train.train`, a group of completions a step, and stops after
  the step in which one passed.

Every completion is a row of the run `solve`, in the order in which the method had it; each SDPO run has a
journal of its own beside it, with rollouts and teacher prompts. Source: arXiv:2601.20802.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import TrainerCallback, TrainerControl

from analysis.journal.journal import Journal
from analysis.provenance import Named, run_info, weights_of
from analysis.records import RunInfo
from analysis.task_ids import TaskId, task_number
from evaluator.evaluation.evaluate import GradedAnswer, graded_batches, record
from evaluator.evaluation.self_check import check_harness
from evaluator.grading.feedback import control_tokens, feedback
from evaluator.grading.grade import Grade
from evaluator.models.context_length import context_length
from evaluator.problems.mbpp import Problem, ProblemSet
from evaluator.problems.prompt import Conversation, Protocol, fill
from evaluator.sampling.answer_end import before_stop, stop_rule
from evaluator.sampling.completions import Answer
from evaluator.sampling.model import Policy, load_policy
from evaluator.sampling.policy import generate, prompt_text
from sandbox.client import Sandbox, open_sandbox
from trainer.experiments.discovery import Trials
from trainer.experiments.solve_options import SolveOptions, training_options
from trainer.options.config import Options
from trainer.options.own import Own, load_own
from trainer.options.prompting import Asking, ask_plainly, asking
from trainer.rollouts.settings import filters_of
from trainer.step.loss_trainer import BenchTrainer
from trainer.teacher.prompt import demonstration
from trainer.training.plan import problems_of
from trainer.training.train import Say, train

FEEDBACK_TURN = "That answer failed:\n\n{feedback}\n\nAnswer again, with one Python code block and nothing else."
"""What the user says to a failed answer."""

FEEDBACK_TEXT = "That answer failed:\n\n{feedback}\n"
"""The same in a plain form, in which no answer is a code block."""


@dataclass(frozen=True)
class SolveResult:
    """What each method found."""

    run_dir: Path
    trials: tuple[Trials, ...]


def solve(options: SolveOptions, *, say: Say) -> SolveResult:
    """Try every method on every problem.

    Raises:
        ConfigError, DatasetError, HarnessError, ModelError, SandboxError, StoreError: with one line for
            the user.
    """
    first = training_options(options, options.task_ids[0], options.seeds[0])
    bench = first.bench
    name = f"{options.dataset}[{','.join(map(str, options.task_ids))}]"
    problems = problems_of(bench, name)
    own = load_own(bench, problems.problems[0])
    policy = _load(first)
    form = asking(bench, problems, plain=not policy.tokenizer.chat_template)
    with (
        open_sandbox(bench.sandbox) as sandbox,
        Journal.create(
            options.runs_dir, _describe(options, first, problems, form.protocol, sandbox, own)
        ) as journal,
    ):
        check_harness(problems, sandbox, timeout_s=bench.timeout_s)
        solver = _Solver(options, first, problems, form, own, sandbox, journal, say, policy)
        del policy  # the solver lets it go where its memory is needed
        trials = tuple(solver.trials(method) for method in options.methods)
    return SolveResult(journal.run_dir, trials)


@dataclass
class _Solver:
    """One call of `solve`: what its methods share."""

    options: SolveOptions
    first: Options
    """The training configuration of the first problem and seed."""
    problems: ProblemSet
    form: Asking
    own: Own
    sandbox: Sandbox
    journal: Journal
    say: Say
    policy: Policy | None
    """None while a method trains, and until one samples again."""

    def trials(self, method: str) -> Trials:
        """Run one method with every seed, and store what it did."""
        of_method: Callable[[int], Iterator[list[GradedAnswer]]] = {
            "best-of-n": self._best_of_n,
            "multi-turn": self._multi_turn,
            "sdpo": self._sdpo,
        }[method]
        if method == "sdpo":
            self.policy = None  # its memory is needed
        passed = []
        for seed in self.options.seeds:
            summary = record(
                self.problems,
                of_method(seed),
                journal=self.journal,
                eval_id=f"{method}-{seed}",
                label=f"solve {method}",
                protocol=self.form.protocol.name,
                decoding=self._decoding(method),
            )
            flags: dict[TaskId, list[bool]] = {p.task_id: [] for p in self.problems.problems}
            for item in summary.graded:
                flags[item.answer.problem.task_id].append(item.grade.passed)
            passed.append(flags)
            n_found = sum(any(found) for found in flags.values())
            self.say(f"{method}, seed {seed}: {n_found} of {len(flags)} problems solved")
        return Trials(method, self.options.budget, tuple(passed), independent=method == "best-of-n")

    def _best_of_n(self, seed: int) -> Iterator[list[GradedAnswer]]:
        for problem in self.problems.problems:
            yield self._graded(
                [(problem, self.form.messages(problem))] * self.options.budget,
                range(self.options.budget),
                seed=seed + 1000 * task_number(problem.task_id),
            )

    def _multi_turn(self, seed: int) -> Iterator[list[GradedAnswer]]:
        """Conversations of some turns each, all of a problem's side by side.

        They do not depend on each other, so to have them side by side gives what having them one
        after the other would, in which order their answers count.
        """
        for problem in self.problems.problems:
            rows = [row for chain in self._chains(problem, seed) for row in chain]
            yield _until_solved(rows)

    def _chains(self, problem: Problem, seed: int) -> list[list[GradedAnswer]]:
        """The conversations about one problem, each up to its first pass."""
        budget, turns = self.options.budget, self.options.turns
        starts = range(0, budget, turns)
        talks = [list(self.form.messages(problem)) for _ in starts]
        chains: list[list[GradedAnswer]] = [[] for _ in starts]
        for turn in range(turns):
            going = [
                at
                for at, start in enumerate(starts)
                if len(chains[at]) == turn
                and start + turn < budget
                and not any(item.grade.passed for item in chains[at])
            ]
            if not going:
                break
            graded = self._graded(
                [(problem, talks[at]) for at in going],
                [starts[at] + turn for at in going],
                seed=seed + 1000 * task_number(problem.task_id) + turn,
            )
            for at, item in zip(going, graded, strict=True):
                chains[at].append(item)
                talks[at] = self._continued(talks[at], item)
        return chains

    def _continued(self, talk: Conversation, item: GradedAnswer) -> Conversation:
        """The conversation after one failed answer; begun again where no more fits the context."""
        policy = self._loaded()
        special = control_tokens(policy.tokenizer)
        said = feedback(item.grade, special_tokens=special, function=self.own.feedback)
        own = demonstration(item.answer.completion, special_tokens=special, strip_thinking=True)
        longer = [
            *talk,
            {"role": "assistant", "content": self.form.answered(own)},
            {"role": "user", "content": fill(_turn(self.form.protocol), {"feedback": said or ""})},
        ]
        text = prompt_text(policy.tokenizer, longer, policy.chat_template_kwargs)
        n_tokens = len(policy.tokenizer(text)["input_ids"])
        context = context_length(policy.model)
        limit = self.first.bench.max_teacher_prompt_tokens
        room = limit if context is None else min(limit, context - self._max_new_tokens)
        return longer if n_tokens <= room else list(self.form.messages(item.answer.problem))

    def _sdpo(self, seed: int) -> Iterator[list[GradedAnswer]]:
        for problem in self.problems.problems:
            options = training_options(self.options, problem.task_id, seed)
            watch = _Watch()
            result = train("sdpo", options, say=lambda _: None, prepare=watch.prepare)
            self.say(
                f"sdpo, seed {seed}, task {problem.task_id}: {len(watch.grades)} completions, "
                f"{'solved' if watch.solved else 'not solved'} ({result.run_dir.name})"
            )
            yield _until_solved(
                [
                    GradedAnswer(Answer(problem, grade.completion, index), grade)
                    for index, grade in enumerate(watch.grades)
                ]
            )

    def _graded(
        self, asked: Sequence[tuple[Problem, Conversation]], indices: Sequence[int], *, seed: int
    ) -> list[GradedAnswer]:
        training = self.first.training
        samples = generate(
            self._loaded(),
            [talk for _, talk in asked],
            max_new_tokens=self._max_new_tokens,
            temperature=training.temperature,
            top_p=training.top_p,
            filters=filters_of(training),
            batch_size=self.first.bench.eval_batch,
            seed=seed,
            stop=[stop_rule(problem, self.form.protocol) for problem, _ in asked],
        )
        marks = self.form.protocol.stop
        answers = [
            Answer(problem, before_stop(s.text, marks), index, s.prompt, s.n_tokens, s.truncated)
            for (problem, _), index, s in zip(asked, indices, samples, strict=True)
        ]
        (batch,) = graded_batches([answers], self.sandbox, timeout_s=self.first.bench.timeout_s)
        return batch

    def _loaded(self) -> Policy:
        """The policy as it is, loaded when it is first needed."""
        if self.policy is None:
            self.policy = _load(self.first)
        ask_plainly(self.policy.tokenizer, self.form)
        return self.policy

    @property
    def _max_new_tokens(self) -> int:
        return int(self.first.training.max_completion_length)

    def _decoding(self, method: str) -> str:
        training = self.first.training
        text = (
            f"{method}, budget {self.options.budget}, temperature {training.temperature:g}, "
            f"top_p {training.top_p:g}, {self._max_new_tokens} tokens"
        )
        return text + (f", {self.options.turns} turns" if method == "multi-turn" else "")


def _load(first: Options) -> Policy:
    """The policy that every method begins with."""
    model, bench = first.model, first.bench
    return load_policy(
        model.model_name_or_path,
        device="cpu" if first.training.use_cpu else "auto",
        dtype=model.dtype or "auto",
        load_in_4bit=model.load_in_4bit,
        unsloth=bench.use_unsloth,
        chat_template_kwargs=first.training.chat_template_kwargs,
        chat_template=None if bench.chat_template is None else Path(bench.chat_template),
    )


class _Watch(TrainerCallback):
    """Keeps the grades of a training run in order, and ends it after a step with a pass."""

    def __init__(self) -> None:
        self.grades: list[Grade] = []

    @property
    def solved(self) -> bool:
        return any(grade.passed for grade in self.grades)

    def prepare(self, trainer: BenchTrainer) -> None:
        self._grader = trainer.grader
        trainer.add_callback(self)

    def on_step_end(
        self, args: object, state: object, control: TrainerControl, **_: object
    ) -> None:
        """Take the step's grades; a step has one rollout batch, see `training_options`."""
        self.grades += [rollout.grade for rollout in self._grader.graded]
        control.should_training_stop |= self.solved


def _turn(protocol: Protocol) -> str:
    """What is said to a failed answer in a prompt form."""
    return FEEDBACK_TURN if protocol.chat else FEEDBACK_TEXT


def _until_solved(rows: Sequence[GradedAnswer]) -> list[GradedAnswer]:
    """What a method took until it was done: all up to the first pass."""
    first = next((at for at, item in enumerate(rows) if item.grade.passed), len(rows) - 1)
    return list(rows[: first + 1])


_DESCRIBED = ("task_ids", "budget", "turns", "seeds", "methods")


def _describe(
    options: SolveOptions,
    first: Options,
    problems: ProblemSet,
    protocol: Protocol,
    sandbox: Sandbox,
    own: Own,
) -> RunInfo:
    config = {
        "solve": {
            **{name: getattr(options, name) for name in _DESCRIBED},
            "feedback_turn": _turn(protocol),
        },
        **first.resolved(),
    }
    wording = f"{protocol.sha256} {hashlib.sha256(_turn(protocol).encode()).hexdigest()}"
    return run_info(
        kind="eval",
        label="solve",
        config=config,
        seed=options.seeds[0],
        weights=weights_of(str(first.model.model_name_or_path)),
        dataset=problems,
        protocol=Named(protocol.name, hashlib.sha256(wording.encode()).hexdigest()),
        sandbox=sandbox.name,
        own=own.recorded,
    )
