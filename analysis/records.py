"""Every row that a run writes, as a type; field descriptions become the SQL column comments."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import Field

from analysis.storable import Record, Row, storable
from analysis.task_ids import TaskId

__all__ = ["RECORDS", "Record", "Row", "storable"]

SCHEMA_VERSION = 1
"""Written into run.json and each segment. A field that is added as optional needs no new number."""

_UNSAID = "NULL where a foreign log does not say"


class RunInfo(Row):
    """What `runs/<run_id>/run.json` holds: written once, atomically, before the first record."""

    schema_version: int = Field(
        default=SCHEMA_VERSION,
        ge=1,
        le=SCHEMA_VERSION,
        description="version of the journal's form, from 1",
    )
    run_id: str = Field(description="unique name of the run; its folder under runs/")
    kind: Literal["train", "eval"] = Field(description="train or eval")
    algorithm: str | None = Field(
        default=None,
        description="grpo, sdpo, hybrid, routed, rlsd, anchored, sft or audit; NULL for an evaluation",
    )
    label: str = Field(description="what a person calls the run")
    created_at: str = Field(description="UTC start, ISO 8601")
    config: dict[str, Any] = Field(description="the whole resolved configuration, JSON")
    config_sha256: str = Field(description="sha256 of the canonical JSON of config")
    seed: int | None = Field(
        default=None, description="seed of sampling, data order and initialisation"
    )
    model: str | None = Field(
        default=None, description="model name or folder; NULL where no model ran"
    )
    model_sha256: str | None = Field(
        default=None, description="sha256 over the model folder's weights; NULL for hub names"
    )
    adapter: str | None = Field(default=None, description="adapter folder; NULL for the base model")
    dataset: str = Field(description="e.g. mbpp/sanitized/test or embedded/train")
    dataset_sha256: str = Field(description="sha256 of the source's content")
    protocol: str = Field(description="name of the prompt form, e.g. mbpp")
    protocol_sha256: str = Field(description="sha256 of the prompt form's templates")
    sandbox: str = Field(description="sandbox backend and image")
    reward_function: str | None = Field(
        default=None, description="reward of one's own as it was named; NULL for the shipped one"
    )
    reward_sha256: str | None = Field(
        default=None, description="sha256 of the file in which that function stands"
    )
    feedback_function: str | None = Field(
        default=None, description="feedback of one's own as it was named; NULL for the shipped one"
    )
    feedback_sha256: str | None = Field(
        default=None, description="sha256 of the file in which that function stands"
    )
    chat_template_sha256: str | None = Field(
        default=None, description="sha256 of a chat template of one's own; NULL for the model's"
    )
    git_commit: str | None = Field(
        default=None, description="commit of the working tree; NULL outside a checkout"
    )
    git_dirty: bool | None = Field(
        default=None, description="whether the tree had uncommitted changes"
    )
    git_diff: str | None = Field(
        default=None,
        description="uncommitted changes as a diff, bounded; NULL where there were none",
    )
    packages: dict[str, str] = Field(
        default_factory=dict, description="package name to version, JSON"
    )
    hardware: dict[str, Any] = Field(
        default_factory=dict, description="cpu, memory, gpu, platform, JSON"
    )
    parent_run_id: str | None = Field(
        default=None, description="the run this one evaluates or continues"
    )
    sequence: int | None = Field(
        default=None,
        description="order in which the runs of its folder began, from 1: a clock can jump back; "
        "NULL in runs of earlier versions, which come first",
    )

    @property
    def order(self) -> tuple[int, str, str]:
        """Sorting key, the newest run last; the clock decides only where nothing else can."""
        return self.sequence or 0, self.created_at, self.run_id

    @property
    def code_version(self) -> str | None:
        """Commit, and a hash of what was changed in it; of an installed package its version."""
        if self.git_commit is None:
            return self.packages.get("sdpo-bench")
        if not self.git_dirty:
            return self.git_commit[:12]
        changes = hashlib.sha256((self.git_diff or "").encode()).hexdigest()
        return f"{self.git_commit[:12]} changed ({changes[:8]})"


class SegmentHeader(Row):
    """First line of each journal file: who wrote it."""

    schema_version: int = Field(
        ge=1, le=SCHEMA_VERSION, description="version of the journal's form, from 1"
    )
    run_id: str = Field(description="the run it belongs to")
    attempt: int = Field(description="0 for the first process, +1 for each resume")
    pid: int = Field(description="process id of the writer")
    host: str = Field(description="name of the machine")
    opened_at: str = Field(description="UTC time of opening, ISO 8601")


class RunState(Record):
    """A change of a run's state."""

    table = "run_states"
    key = ("attempt",)
    attempt: int = Field(description="0 for the first process, +1 for each resume")
    state: Literal["running", "finished", "failed", "stopped"] = Field(
        description="last known state"
    )
    changed_at: str = Field(description="UTC time of the change, ISO 8601")
    error: str | None = Field(
        default=None, description="what ended the run; NULL where nothing went wrong"
    )


class Rewind(Record):
    """A resume from a checkpoint: earlier attempts' rows about later steps do not count.

    What goes: metrics, rollouts and evals of a later step, the evals' results, and the executions
    and test results that only those rows name.
    """

    table = "rewinds"
    key = ("attempt",)
    attempt: int = Field(description="the attempt that started from the checkpoint, >= 1")
    step: int = Field(description="optimizer step of the checkpoint, >= 0; 0 starts over")


class Metric(Record):
    """One scalar of one optimizer step."""

    table = "metrics"
    key = ("step", "name")
    step: int = Field(description="optimizer step, from 1; 0 is before training")
    name: str = Field(description="name of the metric, e.g. reward/mean")
    value: float = Field(description="its value; unit in the name where it has one")


class Rollout(Record):
    """One sampled completion of a training step with its grade and what the teacher read."""

    table = "rollouts"
    key = ("step", "group_index", "member_index")
    step: int = Field(description="optimizer step that sampled it, from 1")
    group_index: int = Field(description="problem among those sampled in the step, from 0")
    member_index: int = Field(description="completion within its group, 0..G-1")
    execution_id: str = Field(description="key into executions and test_results")
    task_id: TaskId | None = Field(description=f"id of the problem; {_UNSAID}")
    prompt: str = Field(description="templated prompt as the policy read it")
    completion: str = Field(description="text the policy wrote")
    n_prompt_tokens: int | None = Field(description=f"tokens of the prompt, >= 1; {_UNSAID}")
    n_completion_tokens: int | None = Field(
        description=f"tokens of the completion, its end token counted, >= 0; {_UNSAID}"
    )
    truncated: bool | None = Field(description=f"true when the length limit ended it; {_UNSAID}")
    code: str | None = Field(description="extracted program; NULL when none was found")
    outcome: str = Field(
        description="failure class: passed, wrong_answer, an exception name, no_code, timeout, ..., "
        "imported where a foreign log does not say"
    )
    n_passed: int | None = Field(description=f"asserts passed, 0..n_asserts; {_UNSAID}")
    n_asserts: int | None = Field(description=f"asserts of the problem, >= 1; {_UNSAID}")
    correctness: float | None = Field(description=f"fraction of asserts passed, 0..1; {_UNSAID}")
    format_score: float | None = Field(description=f"format score, 0..1; {_UNSAID}")
    reward: float | None = Field(description=f"weighted sum of the parts; {_UNSAID}")
    reward_parts: dict[str, Any] | None = Field(
        default=None,
        description="value and weight of each part by its name, JSON, of a reward of one's own; NULL for the shipped "
        "one, whose parts are correctness and format_score",
    )
    advantage: float | None = Field(
        description=f"reward relative to its group, as used by the policy loss; {_UNSAID}"
    )
    feedback: str | None = Field(description="what the sandbox said; NULL for a passing completion")
    demonstration_member: int | None = Field(
        description="member whose solution the teacher was shown; NULL if none"
    )
    feedback_used: bool = Field(description="whether the teacher was shown the feedback")
    teacher_prompt: str | None = Field(
        description="templated prompt of the teacher; NULL when it had none"
    )
    teacher_context: str | None = Field(
        default=None,
        description="what that prompt shows: peer (a member's solution), reference, feedback alone, or nothing (the "
        "policy's own prompt); NULL where there is no such prompt, and in runs from before it was recorded",
    )
    suspicion: str | None = Field(
        default=None,
        description=f"why a rewarded program looks like an attempt on the grader, empty if it does not; {_UNSAID}",
    )


class ExecutionRow(Record):
    """What one sandboxed execution cost."""

    table = "executions"
    key = ("execution_id",)
    execution_id: str = Field(description="unique within the run")
    cpu_ms: float = Field(description="CPU time, milliseconds")
    wall_ms: float = Field(description="wall-clock time, milliseconds")
    peak_memory_bytes: int = Field(description="peak resident memory, bytes")
    output_tail: str = Field(description="last part of what the program printed")
    output_truncated: bool = Field(description="whether earlier output was dropped")


class TestResult(Record):
    """The verdict on one assert."""

    __test__ = False  # pytest: the name is no test's

    table = "test_results"
    key = ("execution_id", "assert_index")
    execution_id: str = Field(description="key into executions, rollouts and eval_results")
    assert_index: int = Field(description="position of the assert in the problem, from 0")
    assertion: str = Field(description="source of the assert")
    verdict: str = Field(
        description="passed, failed, error, timeout, memory, crashed, unjudged or not_run"
    )
    trusted: bool = Field(
        description="false when it had to be evaluated beside the candidate; earns no reward"
    )
    exception: str | None = Field(description="type of the exception; NULL if none")
    message: str | None = Field(description="its message or the cause, bounded")
    line: int | None = Field(description="1-based line of the program; NULL if unknown")
    expected: str | None = Field(description="what the assert asks for, bounded")
    got: str | None = Field(description="what came back, bounded")


class Eval(Record):
    """One evaluation: a policy at one step over one set of problems."""

    table = "evals"
    key = ("eval_id",)
    eval_id: str = Field(description="unique within the run, e.g. step-50 or final")
    step: int | None = Field(description="optimizer step of the policy; NULL outside training")
    label: str = Field(description="what a person calls it")
    dataset: str = Field(description="e.g. mbpp/sanitized/test")
    dataset_sha256: str | None = Field(
        default=None,
        description="of its content; NULL where imported, and in runs from before it was recorded",
    )
    protocol: str = Field(description="name of the prompt form")
    decoding: str = Field(description="greedy or the sampling parameters")
    n: int = Field(description="problems evaluated")
    k: int = Field(description="problems whose first completion passes every assert")
    interval_low: float = Field(description="lower end of the 95 % Wilson interval of k/n, 0..1")
    interval_high: float = Field(description="upper end of the 95 % Wilson interval of k/n, 0..1")
    wall_s: float | None = Field(description="wall-clock time, seconds; NULL where imported")


class EvalResult(Record):
    """One completion of one problem in an evaluation."""

    table = "eval_results"
    key = ("eval_id", "task_id", "sample_index")
    eval_id: str = Field(description="key into evals")
    task_id: TaskId = Field(description="id of the problem")
    sample_index: int = Field(description="completion of that problem, from 0")
    execution_id: str = Field(description="key into executions and test_results")
    prompt: str | None = Field(description="templated prompt; NULL for recorded completions")
    completion: str = Field(description="text that was graded")
    code: str | None = Field(description="extracted program; NULL when none was found")
    outcome: str = Field(description="failure class, see rollouts.outcome")
    passed: bool = Field(description="whether every assert passed")
    n_passed: int | None = Field(description="asserts passed; NULL where imported")
    n_asserts: int | None = Field(description="asserts of the problem; NULL where imported")
    n_completion_tokens: int | None = Field(
        description="tokens of the completion, its end token counted as in rollouts (an API's as its "
        "server counts; runs of earlier versions on transformers left it out); NULL for recorded ones"
    )
    truncated: bool | None = Field(
        description="true when the length limit ended it; NULL for recorded ones"
    )
    feedback: str | None = Field(description="what the sandbox said; NULL for a passing completion")


class Audit(Record):
    """One comparison of the training code with an independent derivation of the same quantity."""

    table = "audits"
    key = ("step", "layer", "micro_batch")
    step: int = Field(description="optimizer step, from 1")
    layer: str = Field(description="what was compared, e.g. loss or gradient")
    micro_batch: int = Field(default=0, description="micro-batch within the step, from 0")
    delta: float = Field(description="largest absolute difference found, >= 0, unit of the layer")
    threshold: float = Field(description="largest difference that passes, same unit")
    passed: bool = Field(description="whether delta is at most threshold")
    detail: str | None = Field(default=None, description="what differed; NULL where nothing did")


class TokenStat(Record):
    """One token of a sampled rollout: what the student and the teacher thought of it."""

    table = "token_stats"
    key = ("step", "group_index", "member_index", "token_index")
    step: int = Field(description="optimizer step that sampled it, from 1")
    group_index: int = Field(description="problem among those sampled in the step, from 0")
    member_index: int = Field(description="completion within its group, 0..G-1")
    token_index: int = Field(description="position in the completion, from 0")
    token: str = Field(description="text of the token")
    student_logprob: float | None = Field(description="log p under the student, nats, <= 0")
    teacher_logprob: float | None = Field(
        description="log p under the teacher, nats, <= 0; NULL where there was none"
    )
    divergence: float | None = Field(
        description="distillation loss of the token, importance weights included, nats; "
        "NULL without a teacher"
    )


class GapAnswer(Record):
    """One answer of an untrained policy that was shown something beside the problem, with its grade."""

    table = "gap_answers"
    key = ("task_id", "shown", "greedy", "sample_index")
    task_id: TaskId = Field(description="id of the problem")
    shown: str = Field(
        description="what stood beside the problem: nothing, peer, reference, feedback, wrong or other"
    )
    greedy: bool = Field(description="true for the greedy answer, false for a sampled one")
    sample_index: int = Field(description="answer of that kind, from 0")
    prompt: str = Field(description="templated prompt as the policy read it")
    completion: str = Field(description="text the policy wrote")
    n_completion_tokens: int = Field(
        description="tokens of the completion, its end token counted, >= 0"
    )
    truncated: bool = Field(description="true when the length limit ended it")
    outcome: str = Field(description="failure class, see rollouts.outcome")
    passed: bool = Field(description="whether every assert passed")


class GapLogprob(Record):
    """How likely the policy finds an answer of its own when it is shown something beside the problem."""

    table = "gap_logprobs"
    key = ("task_id", "sample_index", "shown")
    task_id: TaskId = Field(description="id of the problem")
    sample_index: int = Field(description="the sampled answer of gap_answers that was read")
    shown: str = Field(description="what stood beside the problem, see gap_answers.shown")
    passed: bool = Field(description="whether that answer passes every assert")
    n_tokens: int = Field(description="tokens of the answer, >= 1, without the end mark")
    mean_logprob: float = Field(
        description="mean log p of its tokens at the sampling temperature, nats, <= 0"
    )


class Artifact(Record):
    """A file that the run wrote beside its rows."""

    table = "artifacts"
    key = ("path",)
    path: str = Field(description="where it lies, relative to the run's folder")
    kind: str = Field(description="adapter, checkpoint, log, ...")
    step: int | None = Field(description="optimizer step it belongs to; NULL if none")
    n_bytes: int = Field(description="its size, bytes, >= 0")
    sha256: str | None = Field(default=None, description="of its content; NULL where not computed")


RECORDS: tuple[type[Record], ...] = (
    RunState,
    Rewind,
    Metric,
    Rollout,
    ExecutionRow,
    TestResult,
    Eval,
    EvalResult,
    Audit,
    TokenStat,
    GapAnswer,
    GapLogprob,
    Artifact,
)
"""Every table that journals hold, apart from `runs`."""
