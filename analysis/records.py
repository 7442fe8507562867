"""Every row that a run writes, as a type; field descriptions become the SQL column comments."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class Record(BaseModel):
    """One journal line of one table."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, protected_namespaces=())
    table: ClassVar[str]
    key: ClassVar[tuple[str, ...]]
    """Natural key within a run: a later row with the same key replaces the earlier one."""


class RunInfo(BaseModel):
    """What `runs/<run_id>/run.json` holds: written once, atomically, before the first record."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    schema_version: int = SCHEMA_VERSION
    run_id: str = Field(description="unique name of the run; its folder under runs/")
    kind: Literal["train", "eval"] = Field(description="train or eval")
    algorithm: str | None = Field(None, description="grpo, sdpo, hybrid or audit; NULL for an evaluation")
    label: str = Field(description="what a person calls the run")
    created_at: str = Field(description="UTC start, ISO 8601")
    config: dict[str, Any] = Field(description="the whole resolved configuration, JSON")
    config_sha256: str = Field(description="sha256 of the canonical JSON of config")
    seed: int | None = Field(None, description="seed of sampling, data order and initialisation")
    model: str | None = Field(None, description="model name or folder; NULL where no model ran")
    model_sha256: str | None = Field(None, description="sha256 over the model folder's weights; NULL for hub names")
    adapter: str | None = Field(None, description="adapter folder; NULL for the base model")
    dataset: str = Field(description="e.g. mbpp/sanitized/test or embedded/train")
    dataset_sha256: str = Field(description="sha256 of the source's content")
    protocol: str = Field(description="name of the prompt form, e.g. mbpp")
    protocol_sha256: str = Field(description="sha256 of the prompt form's templates")
    sandbox: str = Field(description="sandbox backend and image")
    git_commit: str | None = Field(None, description="commit of the working tree; NULL outside a checkout")
    git_dirty: bool | None = Field(None, description="whether the tree had uncommitted changes")
    packages: dict[str, str] = Field(default_factory=dict, description="package name to version, JSON")
    hardware: dict[str, Any] = Field(default_factory=dict, description="cpu, memory, gpu, platform, JSON")
    parent_run_id: str | None = Field(None, description="the run this one evaluates or continues")


class RunState(Record):
    """A change of a run's state."""

    table = "run_states"
    key = ("attempt",)
    attempt: int = Field(description="0 for the first process, +1 for each resume")
    state: Literal["running", "finished", "failed", "stopped"] = Field(description="last known state")
    at: str = Field(description="UTC time of the change, ISO 8601")
    error: str | None = Field(None, description="what ended the run; NULL where nothing went wrong")


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
    step: int = Field(description="optimizer step that consumed it, from 1")
    group_index: int = Field(description="problem within the rollout batch, from 0")
    member_index: int = Field(description="completion within its group, 0..G-1")
    execution_id: str = Field(description="key into executions and test_results")
    task_id: int = Field(description="id of the problem")
    prompt: str = Field(description="templated prompt as the policy read it")
    completion: str = Field(description="text the policy wrote")
    n_prompt_tokens: int = Field(description="tokens of the prompt, >= 1")
    n_completion_tokens: int = Field(description="tokens of the completion, >= 0")
    truncated: bool = Field(description="true when the length limit ended it")
    code: str | None = Field(description="extracted program; NULL when none was found")
    outcome: str = Field(description="failure class: passed, wrong_answer, an exception name, no_code, timeout, ...")
    n_passed: int = Field(description="asserts passed, 0..n_asserts")
    n_asserts: int = Field(description="asserts of the problem, >= 1")
    correctness: float = Field(description="fraction of asserts passed, 0..1")
    format_score: float = Field(description="format score, 0..1")
    reward: float = Field(description="weighted sum of the parts")
    advantage: float = Field(description="reward relative to its group, as used by the policy loss")
    feedback: str | None = Field(description="what the sandbox said; NULL for a passing completion")
    demonstration_member: int | None = Field(description="member whose solution the teacher was shown; NULL if none")
    feedback_used: bool = Field(description="whether the teacher was shown the feedback")
    teacher_prompt: str | None = Field(description="templated prompt of the teacher; NULL when it had none")


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

    table = "test_results"
    key = ("execution_id", "assert_index")
    execution_id: str = Field(description="key into executions, rollouts and eval_results")
    assert_index: int = Field(description="position of the assert in the problem, from 0")
    assertion: str = Field(description="source of the assert")
    verdict: str = Field(description="passed, failed, error, timeout, memory, crashed or not_run")
    trusted: bool = Field(description="false when it had to be evaluated beside the candidate; earns no reward")
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
    protocol: str = Field(description="name of the prompt form")
    decoding: str = Field(description="greedy or the sampling parameters")
    n: int = Field(description="problems evaluated")
    k: int = Field(description="problems whose first completion passes every assert")
    interval_low: float = Field(description="lower end of the 95 % Wilson interval of k/n, 0..1")
    interval_high: float = Field(description="upper end of the 95 % Wilson interval of k/n, 0..1")
    wall_s: float = Field(description="wall-clock time, seconds")


class EvalResult(Record):
    """One completion of one problem in an evaluation."""

    table = "eval_results"
    key = ("eval_id", "task_id", "sample_index")
    eval_id: str = Field(description="key into evals")
    task_id: int = Field(description="id of the problem")
    sample_index: int = Field(description="completion of that problem, from 0")
    execution_id: str = Field(description="key into executions and test_results")
    prompt: str | None = Field(description="templated prompt; NULL for recorded completions")
    completion: str = Field(description="text that was graded")
    code: str | None = Field(description="extracted program; NULL when none was found")
    outcome: str = Field(description="failure class, see rollouts.outcome")
    passed: bool = Field(description="whether every assert passed")
    n_passed: int = Field(description="asserts passed")
    n_asserts: int = Field(description="asserts of the problem")
    n_completion_tokens: int | None = Field(description="tokens of the completion; NULL for recorded ones")
    truncated: bool | None = Field(description="true when the length limit ended it; NULL for recorded ones")
    feedback: str | None = Field(description="what the sandbox said; NULL for a passing completion")


RECORDS: tuple[type[Record], ...] = (RunState, Metric, Rollout, ExecutionRow, TestResult, Eval, EvalResult)
