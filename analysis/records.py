"""Every row that a run writes, as a type; field descriptions become the SQL column comments."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from analysis.storable import Record, Row, column, storable
from analysis.task_ids import TaskId

__all__ = ["RECORDS", "Record", "Row", "storable"]

SCHEMA_VERSION = 1
"""Written into run.json and each segment. A field that is added as optional needs no new number."""

_UNSAID = "NULL where a foreign log does not say"


class RunInfo(Row):
    """What `runs/<run_id>/run.json` holds: written once, atomically, before the first record."""

    schema_version: int = column(
        "version of the journal's form, from 1", default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION
    )
    run_id: str = column("unique name of the run; its folder under runs/")
    kind: Literal["train", "eval"] = column("train or eval")
    algorithm: str | None = column(
        "grpo, sdpo, hybrid, routed, rlsd, anchored, sft or audit; NULL for an evaluation",
        default=None,
    )
    label: str = column("what a person calls the run")
    created_at: str = column("UTC start, ISO 8601")
    config: dict[str, Any] = column("the whole resolved configuration, JSON")
    config_sha256: str = column("sha256 of the canonical JSON of config")
    seed: int | None = column("seed of sampling, data order and initialisation", default=None)
    model: str | None = column("model name or folder; NULL where no model ran", default=None)
    model_sha256: str | None = column(
        "sha256 over the model folder's weights; NULL for hub names", default=None
    )
    adapter: str | None = column("adapter folder; NULL for the base model", default=None)
    dataset: str = column("e.g. mbpp/sanitized/test or embedded/train")
    dataset_sha256: str = column("sha256 of the source's content")
    protocol: str = column("name of the prompt form, e.g. mbpp")
    protocol_sha256: str = column("sha256 of the prompt form's templates")
    sandbox: str = column("sandbox backend and image")
    reward_function: str | None = column(
        "reward of one's own as it was named; NULL for the shipped one", default=None
    )
    reward_sha256: str | None = column(
        "sha256 of the file in which that function stands", default=None
    )
    feedback_function: str | None = column(
        "feedback of one's own as it was named; NULL for the shipped one", default=None
    )
    feedback_sha256: str | None = column(
        "sha256 of the file in which that function stands", default=None
    )
    chat_template_sha256: str | None = column(
        "sha256 of a chat template of one's own; NULL for the model's", default=None
    )
    git_commit: str | None = column(
        "commit of the working tree; NULL outside a checkout", default=None
    )
    git_dirty: bool | None = column("whether the tree had uncommitted changes", default=None)
    git_diff: str | None = column(
        "uncommitted changes as a diff, bounded; NULL where there were none", default=None
    )
    packages: dict[str, str] = column("package name to version, JSON", default_factory=dict)
    hardware: dict[str, Any] = column("cpu, memory, gpu, platform, JSON", default_factory=dict)
    parent_run_id: str | None = column("the run this one evaluates or continues", default=None)
    sequence: int | None = column(
        "order in which the runs of its folder began, from 1: a clock can jump back; "
        "NULL in runs of earlier versions, which come first",
        default=None,
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

    schema_version: int = column("version of the journal's form, from 1", ge=1, le=SCHEMA_VERSION)
    run_id: str = column("the run it belongs to")
    attempt: int = column("0 for the first process, +1 for each resume")
    pid: int = column("process id of the writer")
    host: str = column("name of the machine")
    opened_at: str = column("UTC time of opening, ISO 8601")


class RunState(Record):
    """A change of a run's state."""

    table = "run_states"
    key = ("attempt",)
    attempt: int = column("0 for the first process, +1 for each resume")
    state: Literal["running", "finished", "failed", "stopped"] = column("last known state")
    changed_at: str = column("UTC time of the change, ISO 8601")
    error: str | None = column("what ended the run; NULL where nothing went wrong", default=None)


class Rewind(Record):
    """A resume from a checkpoint: earlier attempts' rows about later steps do not count.

    What goes: metrics, rollouts and evals of a later step, the evals' results, and the executions
    and test results that only those rows name.
    """

    table = "rewinds"
    key = ("attempt",)
    attempt: int = column("the attempt that started from the checkpoint, >= 1")
    step: int = column("optimizer step of the checkpoint, >= 0; 0 starts over")


class Metric(Record):
    """One scalar of one optimizer step."""

    table = "metrics"
    key = ("step", "name")
    step: int = column("optimizer step, from 1; 0 is before training")
    name: str = column("name of the metric, e.g. reward/mean")
    value: float = column("its value; unit in the name where it has one")


class Rollout(Record):
    """One sampled completion of a training step with its grade and what the teacher read."""

    table = "rollouts"
    key = ("step", "group_index", "member_index")
    step: int = column("optimizer step that sampled it, from 1")
    group_index: int = column("problem among those sampled in the step, from 0")
    member_index: int = column("completion within its group, 0..G-1")
    execution_id: str = column("key into executions and test_results")
    task_id: TaskId | None = column(f"id of the problem; {_UNSAID}")
    prompt: str = column("templated prompt as the policy read it")
    completion: str = column("text the policy wrote")
    n_prompt_tokens: int | None = column(f"tokens of the prompt, >= 1; {_UNSAID}")
    n_completion_tokens: int | None = column(
        f"tokens of the completion, its end token counted, >= 0; {_UNSAID}"
    )
    truncated: bool | None = column(f"true when the length limit ended it; {_UNSAID}")
    code: str | None = column("extracted program; NULL when none was found")
    outcome: str = column(
        "failure class: passed, wrong_answer, an exception name, no_code, timeout, ..., "
        "imported where a foreign log does not say"
    )
    n_passed: int | None = column(f"asserts passed, 0..n_asserts; {_UNSAID}")
    n_asserts: int | None = column(f"asserts of the problem, >= 1; {_UNSAID}")
    correctness: float | None = column(f"fraction of asserts passed, 0..1; {_UNSAID}")
    format_score: float | None = column(f"format score, 0..1; {_UNSAID}")
    reward: float | None = column(f"weighted sum of the parts; {_UNSAID}")
    reward_parts: dict[str, Any] | None = column(
        "value and weight of each part by its name, JSON, of a reward of one's own; NULL for the shipped "
        "one, whose parts are correctness and format_score",
        default=None,
    )
    advantage: float | None = column(
        f"reward relative to its group, as used by the policy loss; {_UNSAID}"
    )
    feedback: str | None = column("what the sandbox said; NULL for a passing completion")
    demonstration_member: int | None = column(
        "member whose solution the teacher was shown; NULL if none"
    )
    feedback_used: bool = column("whether the teacher was shown the feedback")
    teacher_prompt: str | None = column("templated prompt of the teacher; NULL when it had none")
    teacher_context: str | None = column(
        "what that prompt shows: peer (a member's solution), reference, feedback alone, or nothing (the "
        "policy's own prompt); NULL where there is no such prompt, and in runs from before it was recorded",
        default=None,
    )
    suspicion: str | None = column(
        f"why a rewarded program looks like an attempt on the grader, empty if it does not; {_UNSAID}",
        default=None,
    )


class ExecutionRow(Record):
    """What one sandboxed execution cost."""

    table = "executions"
    key = ("execution_id",)
    execution_id: str = column("unique within the run")
    cpu_ms: float = column("CPU time, milliseconds")
    wall_ms: float = column("wall-clock time, milliseconds")
    peak_memory_bytes: int = column("peak resident memory, bytes")
    output_tail: str = column("last part of what the program printed")
    output_truncated: bool = column("whether earlier output was dropped")


class TestResult(Record):
    """The verdict on one assert."""

    __test__ = False  # pytest: the name is no test's

    table = "test_results"
    key = ("execution_id", "assert_index")
    execution_id: str = column("key into executions, rollouts and eval_results")
    assert_index: int = column("position of the assert in the problem, from 0")
    assertion: str = column("source of the assert")
    verdict: str = column("passed, failed, error, timeout, memory, crashed, unjudged or not_run")
    trusted: bool = column(
        "false when it had to be evaluated beside the candidate; earns no reward"
    )
    exception: str | None = column("type of the exception; NULL if none")
    message: str | None = column("its message or the cause, bounded")
    line: int | None = column("1-based line of the program; NULL if unknown")
    expected: str | None = column("what the assert asks for, bounded")
    got: str | None = column("what came back, bounded")


class Eval(Record):
    """One evaluation: a policy at one step over one set of problems."""

    table = "evals"
    key = ("eval_id",)
    eval_id: str = column("unique within the run, e.g. step-50 or final")
    step: int | None = column("optimizer step of the policy; NULL outside training")
    label: str = column("what a person calls it")
    dataset: str = column("e.g. mbpp/sanitized/test")
    dataset_sha256: str | None = column(
        "of its content; NULL where imported, and in runs from before it was recorded", default=None
    )
    protocol: str = column("name of the prompt form")
    decoding: str = column("greedy or the sampling parameters")
    n: int = column("problems evaluated")
    k: int = column("problems whose first completion passes every assert")
    interval_low: float = column("lower end of the 95 % Wilson interval of k/n, 0..1")
    interval_high: float = column("upper end of the 95 % Wilson interval of k/n, 0..1")
    wall_s: float | None = column("wall-clock time, seconds; NULL where imported")


class EvalResult(Record):
    """One completion of one problem in an evaluation."""

    table = "eval_results"
    key = ("eval_id", "task_id", "sample_index")
    eval_id: str = column("key into evals")
    task_id: TaskId = column("id of the problem")
    sample_index: int = column("completion of that problem, from 0")
    execution_id: str = column("key into executions and test_results")
    prompt: str | None = column("templated prompt; NULL for recorded completions")
    completion: str = column("text that was graded")
    code: str | None = column("extracted program; NULL when none was found")
    outcome: str = column("failure class, see rollouts.outcome")
    passed: bool = column("whether every assert passed")
    n_passed: int | None = column("asserts passed; NULL where imported")
    n_asserts: int | None = column("asserts of the problem; NULL where imported")
    n_completion_tokens: int | None = column(
        "tokens of the completion, its end token counted as in rollouts (an API's as its "
        "server counts; runs of earlier versions on transformers left it out); NULL for recorded ones"
    )
    truncated: bool | None = column("true when the length limit ended it; NULL for recorded ones")
    feedback: str | None = column("what the sandbox said; NULL for a passing completion")


class Audit(Record):
    """One comparison of the training code with an independent derivation of the same quantity."""

    table = "audits"
    key = ("step", "layer", "micro_batch")
    step: int = column("optimizer step, from 1")
    layer: str = column("what was compared, e.g. loss or gradient")
    micro_batch: int = column("micro-batch within the step, from 0", default=0)
    delta: float = column("largest absolute difference found, >= 0, unit of the layer")
    threshold: float = column("largest difference that passes, same unit")
    passed: bool = column("whether delta is at most threshold")
    detail: str | None = column("what differed; NULL where nothing did", default=None)


class TokenStat(Record):
    """One token of a sampled rollout: what the student and the teacher thought of it."""

    table = "token_stats"
    key = ("step", "group_index", "member_index", "token_index")
    step: int = column("optimizer step that sampled it, from 1")
    group_index: int = column("problem among those sampled in the step, from 0")
    member_index: int = column("completion within its group, 0..G-1")
    token_index: int = column("position in the completion, from 0")
    token: str = column("text of the token")
    student_logprob: float | None = column("log p under the student, nats, <= 0")
    teacher_logprob: float | None = column(
        "log p under the teacher, nats, <= 0; NULL where there was none"
    )
    divergence: float | None = column(
        "distillation loss of the token, importance weights included, nats; NULL without a teacher"
    )


class GapAnswer(Record):
    """One answer of an untrained policy that was shown something beside the problem, with its grade."""

    table = "gap_answers"
    key = ("task_id", "shown", "greedy", "sample_index")
    task_id: TaskId = column("id of the problem")
    shown: str = column(
        "what stood beside the problem: nothing, peer, reference, feedback, wrong or other"
    )
    greedy: bool = column("true for the greedy answer, false for a sampled one")
    sample_index: int = column("answer of that kind, from 0")
    prompt: str = column("templated prompt as the policy read it")
    completion: str = column("text the policy wrote")
    n_completion_tokens: int = column("tokens of the completion, its end token counted, >= 0")
    truncated: bool = column("true when the length limit ended it")
    outcome: str = column("failure class, see rollouts.outcome")
    passed: bool = column("whether every assert passed")


class GapLogprob(Record):
    """How likely the policy finds an answer of its own when it is shown something beside the problem."""

    table = "gap_logprobs"
    key = ("task_id", "sample_index", "shown")
    task_id: TaskId = column("id of the problem")
    sample_index: int = column("the sampled answer of gap_answers that was read")
    shown: str = column("what stood beside the problem, see gap_answers.shown")
    passed: bool = column("whether that answer passes every assert")
    n_tokens: int = column("tokens of the answer, >= 1, without the end mark")
    mean_logprob: float = column("mean log p of its tokens at the sampling temperature, nats, <= 0")


class Artifact(Record):
    """A file that the run wrote beside its rows."""

    table = "artifacts"
    key = ("path",)
    path: str = column("where it lies, relative to the run's folder")
    kind: str = column("adapter, checkpoint, log, ...")
    step: int | None = column("optimizer step it belongs to; NULL if none")
    n_bytes: int = column("its size, bytes, >= 0")
    sha256: str | None = column("of its content; NULL where not computed", default=None)


RECORDS: tuple[type[Record], ...] = tuple(Record.__subclasses__())
"""Every table that journals hold, apart from `runs`, in the order in which they stand above."""
