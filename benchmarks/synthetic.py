"""Makes runs that look like real ones, for tests and for the bench: seeded, no model, no sandbox."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from analysis.journal.journal import Journal
from analysis.provenance import config_sha256
from analysis.records import (
    Audit,
    Eval,
    EvalResult,
    ExecutionRow,
    GapAnswer,
    GapLogprob,
    Metric,
    Record,
    Rollout,
    RunInfo,
    TestResult,
    TokenStat,
)

_Z = 1.959963984540054
_FAILURES = ("wrong_answer", "NameError", "TypeError", "SyntaxError", "no_code", "timeout")
_FAILURE_WEIGHTS = (46, 14, 14, 12, 9, 5)


def wilson(k: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of k of n."""
    centre = (k + _Z**2 / 2) / (n + _Z**2)
    half = _Z / (n + _Z**2) * math.sqrt(k * (n - k) / n + _Z**2 / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def synthetic_info(
    run_id: str,
    *,
    algorithm: str | None = "sdpo",
    seed: int = 42,
    label: str | None = None,
    kind: Literal["train", "eval"] = "train",
    parent_run_id: str | None = None,
) -> RunInfo:
    """Describe a run that never ran; its config says so."""
    config = {"synthetic": True, "seed": seed, "learning_rate": 5e-6, "num_generations": 4}
    return RunInfo(
        run_id=run_id,
        kind=kind,
        algorithm=algorithm,
        label=label or f"{algorithm or 'base'}-{seed}",
        created_at="2026-01-01T00:00:00.000+00:00",
        config=config,
        config_sha256=config_sha256(config),
        seed=seed,
        model="synthetic-0.5b",
        dataset="mbpp/full/train" if kind == "train" else "mbpp/sanitized/test",
        dataset_sha256="0" * 64,
        protocol="mbpp",
        protocol_sha256="1" * 64,
        sandbox="process",
        parent_run_id=parent_run_id,
    )


def write_training_run(
    runs_dir: Path,
    run_id: str,
    *,
    algorithm: str = "sdpo",
    seed: int = 42,
    n_steps: int = 200,
    eval_every: int = 50,
    n_problems: int = 257,
    n_samples: int = 1,
    gain: float = 0.12,
) -> None:
    """Write one training run: rollouts, metrics, audits and evaluations on the way.

    Args:
        runs_dir: folder of the runs' folders.
        run_id: name of the run.
        algorithm: grpo, sdpo, hybrid or audit.
        seed: decides everything that looks random.
        n_steps: optimizer steps.
        eval_every: steps between evaluations; 0 for none.
        n_problems: problems of an evaluation.
        n_samples: completions of each problem in an evaluation.
        gain: how much the policy learns, in pass@1, 0..1.
    """
    rng = random.Random(f"{algorithm} {seed}")
    with Journal.create(
        runs_dir, synthetic_info(run_id, algorithm=algorithm, seed=seed)
    ) as journal:
        for step in range(n_steps + 1):
            skill = 0.42 + gain * (1 - math.exp(-2.5 * step / max(n_steps, 1)))
            if step:
                for record in step_records(rng, step=step, skill=skill, algorithm=algorithm):
                    journal.append(record)
            if eval_every and step % eval_every == 0:
                records = eval_records(
                    rng, step=step, skill=skill, n_problems=n_problems, n_samples=n_samples
                )
                for record in records:
                    journal.append(record)
            journal.commit()


def step_records(
    rng: random.Random,
    *,
    step: int,
    skill: float,
    algorithm: str = "sdpo",
    n_groups: int = 4,
    n_members: int = 4,
) -> Iterator[Record]:
    """Yield what one optimizer step writes."""
    for group in range(n_groups):
        task_id = rng.randrange(601, 975)
        passes = [_passes(rng, task_id, skill) for _ in range(n_members)]
        rewards = [0.7 * (3 if p else rng.choice((0, 0, 1, 2))) / 3 + 0.3 for p in passes]
        mean = sum(rewards) / n_members
        solver = next((i for i, p in enumerate(passes) if p), None)
        for member, passed in enumerate(passes):
            outcome = "passed" if passed else rng.choices(_FAILURES, _FAILURE_WEIGHTS)[0]
            n_passed = 3 if passed else round((rewards[member] - 0.3) / 0.7 * 3)
            demonstration = solver if solver not in (None, member) else None
            teaches = algorithm != "grpo" and (demonstration is not None or not passed)
            execution_id = f"s{step}-g{group}-m{member}"
            code = f"def task_{task_id}(x):\n    return x + {rng.randrange(9)}\n"
            if rng.random() < 0.01:
                code = f"import sys\n{code}sys.exit(0)\n"
            feedback = None if passed else f"{outcome}: assert task_{task_id}(1) == 2 failed"
            prompt = f"Write a function for task {task_id}.\nassert task_{task_id}(1) == 2"
            yield Rollout(
                step=step,
                group_index=group,
                member_index=member,
                execution_id=execution_id,
                task_id=task_id,
                prompt=prompt,
                completion=f"```python\n{code}```",
                n_prompt_tokens=60 + task_id % 40,
                n_completion_tokens=rng.randrange(30, 256),
                truncated=outcome == "no_code",
                code=None if outcome == "no_code" else code,
                outcome=outcome,
                n_passed=n_passed,
                n_asserts=3,
                correctness=n_passed / 3,
                format_score=1.0,
                reward=rewards[member],
                advantage=rewards[member] - mean,
                feedback=feedback,
                demonstration_member=demonstration if teaches else None,
                feedback_used=teaches and feedback is not None,
                teacher_prompt=f"{prompt}\nEarlier attempt: {feedback}" if teaches else None,
                teacher_context=("feedback" if demonstration is None else "peer")
                if teaches
                else None,
                suspicion="ends the process" if n_passed and "sys.exit" in code else "",
            )
            yield from _execution(rng, execution_id, task_id, n_passed=n_passed, outcome=outcome)
            if step % 50 == 1 and member == 0 and teaches:
                yield from _tokens(rng, step=step, group=group, member=member, code=code)
    yield from _metrics(rng, step, algorithm)


def eval_records(
    rng: random.Random, *, step: int | None, skill: float, n_problems: int, n_samples: int = 1
) -> Iterator[Record]:
    """Yield what one evaluation writes."""
    eval_id = "final" if step is None else f"step-{step}"
    k = 0
    for task_id in range(11, 11 + n_problems):
        for sample in range(n_samples):
            passed = _passes(rng, task_id, skill)
            k += passed and sample == 0
            execution_id = f"{eval_id}-{task_id}-{sample}"
            outcome = "passed" if passed else rng.choices(_FAILURES, _FAILURE_WEIGHTS)[0]
            n_passed = 3 if passed else rng.choice((0, 0, 1))
            code = f"def task_{task_id}(x):\n    return x\n"
            yield EvalResult(
                eval_id=eval_id,
                task_id=task_id,
                sample_index=sample,
                execution_id=execution_id,
                prompt=f"Write a function for task {task_id}.",
                completion=f"```python\n{code}```",
                code=code,
                outcome=outcome,
                passed=passed,
                n_passed=n_passed,
                n_asserts=3,
                n_completion_tokens=rng.randrange(30, 256),
                truncated=False,
                feedback=None if passed else f"{outcome}: assert task_{task_id}(1) == 2 failed",
            )
            yield from _execution(rng, execution_id, task_id, n_passed=n_passed, outcome=outcome)
    low, high = wilson(k, n_problems)
    yield Eval(
        eval_id=eval_id,
        step=step,
        label=eval_id,
        dataset="mbpp/sanitized/test",
        protocol="mbpp",
        decoding="greedy" if n_samples == 1 else "temperature 0.7",
        n=n_problems,
        k=k,
        interval_low=low,
        interval_high=high,
        wall_s=40 + 5 * rng.random(),
    )


def _passes(rng: random.Random, task_id: int, skill: float) -> bool:
    """Whether one completion solves a problem: some are easy, some are hopeless."""
    difficulty = random.Random(task_id).random()
    return rng.random() < 1 / (1 + math.exp(-12 * (skill - difficulty)))


def gap_records(rng: random.Random, *, n_problems: int) -> Iterator[Record]:
    """Yield the rows of one measurement of the teacher's gap."""
    gains = {"nothing": 0.0, "peer": 0.3, "reference": 0.4, "feedback": 0.1, "wrong": -0.2}
    for task_id in range(n_problems):
        for kind, gain in gains.items():
            passed = rng.random() < 0.4 + gain
            yield GapAnswer(
                task_id=task_id,
                shown=kind,
                greedy=True,
                sample_index=0,
                prompt="prompt",
                completion="completion",
                n_completion_tokens=20,
                truncated=False,
                outcome="passed" if passed else "wrong_answer",
                passed=passed,
            )
            for sample_index, own_passed in enumerate((True, False)):
                yield GapLogprob(
                    task_id=task_id,
                    sample_index=sample_index,
                    shown=kind,
                    passed=own_passed,
                    n_tokens=20,
                    mean_logprob=-0.5 + (gain if own_passed else -gain) * rng.random(),
                )


def _execution(
    rng: random.Random, execution_id: str, task_id: int, *, n_passed: int, outcome: str
) -> Iterator[Record]:
    """Yield the rows of one sandboxed execution."""
    wall_ms = 5000.0 if outcome == "timeout" else rng.lognormvariate(3, 0.5)
    yield ExecutionRow(
        execution_id=execution_id,
        cpu_ms=wall_ms * 0.8,
        wall_ms=wall_ms,
        peak_memory_bytes=rng.randrange(9 << 20, 14 << 20),
        output_tail="",
        output_truncated=False,
    )
    for index in range(3):
        passed = index < n_passed
        verdict = "passed" if passed else "failed" if outcome == "wrong_answer" else "error"
        yield TestResult(
            execution_id=execution_id,
            assert_index=index,
            assertion=f"assert task_{task_id}({index}) == {index + 1}",
            verdict=verdict,
            trusted=True,
            exception=None if passed or verdict == "failed" else outcome,
            message=None,
            line=None if passed else 2,
            expected=str(index + 1),
            got=str(index + 1) if passed else str(index),
        )


def _tokens(
    rng: random.Random, *, step: int, group: int, member: int, code: str
) -> Iterator[Record]:
    """Yield the sampled tokens of one completion."""
    words = code.replace("\n", "\n ").split(" ")
    for index, word in enumerate(words):
        student = -rng.expovariate(2)
        yield TokenStat(
            step=step,
            group_index=group,
            member_index=member,
            token_index=index,
            token=word + " ",
            student_logprob=student,
            teacher_logprob=student - rng.gauss(0, 0.3),
            divergence=rng.expovariate(8),
        )


def _metrics(rng: random.Random, step: int, algorithm: str) -> Iterator[Record]:
    """Yield the metrics of one step."""
    values = {
        "reward": 0.5 + rng.random() / 2,
        "loss": rng.gauss(0.02, 0.01) if algorithm != "grpo" else rng.gauss(0, 1e-4),
        "grad_norm": rng.lognormvariate(-1, 0.3),
        "time/sample_s": rng.gauss(6, 0.4),
        "time/grade_s": rng.gauss(0.8, 0.1),
        "time/update_s": rng.gauss(3, 0.2),
    }
    if algorithm != "grpo":
        values["distill/divergence"] = 0.08 * math.exp(-step / 150) + rng.gauss(0, 0.004)
        values["distill/loss"] = 0.05 * math.exp(-step / 150) + rng.gauss(0, 0.004)
        values["time/teacher_s"] = rng.gauss(1.2, 0.1)
    for name, value in values.items():
        yield Metric(step=step, name=name, value=value)
    if algorithm == "audit":
        for layer, scale, threshold in (("loss", 1e-8, 1e-6), ("gradient", 3e-9, 1e-6)):
            for micro_batch in range(2):
                delta = scale * rng.lognormvariate(0, 0.5)
                yield Audit(
                    step=step,
                    layer=layer,
                    micro_batch=micro_batch,
                    delta=delta,
                    threshold=threshold,
                    passed=delta <= threshold,
                )
