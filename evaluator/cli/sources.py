"""Where the answers of an evaluation come from: a file, the references, a policy, a server, a cluster."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from evaluator.cli.options import EvalOptions
from evaluator.cli.terminal import print_note
from evaluator.engines.api import Api, sample_served
from evaluator.engines.ray_engine import RayEngine
from evaluator.engines.vllm_engine import VllmPolicy, sample_with_vllm
from evaluator.engines.worker import Facts, Sampling, Work, Worker
from evaluator.evaluation.evaluate import GradedAnswer, graded_batches, in_batches
from evaluator.evaluation.label import findable, folder_label, name_label
from evaluator.evaluation.self_check import check_harness
from evaluator.problems.problem import DatasetError, ProblemSet
from evaluator.problems.prompt import load_shots
from evaluator.results.stored import StoredEval
from evaluator.sampling.completions import Answer, gold_answers, read_completions
from sandbox.client import open_sandbox

DEFAULT_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"


@dataclass(frozen=True)
class Source:
    """Graded answers to come, and what identifies them in the terms that are stored."""

    label: str
    protocol: str
    protocol_sha256: str
    decoding: str
    n: int
    """Answers to come."""
    facts: Facts
    """Sandbox, model and their place."""
    batches: Iterable[Sequence[GradedAnswer]]
    content: Mapping[str, object]
    """What else identifies the source: goes into the stored configuration."""
    policy: VllmPolicy | None = None
    """Samples many at a time, and can tell of those that are finished."""


def open_source(
    options: EvalOptions,
    problem_set: ProblemSet,
    earlier: StoredEval | None,
    stack: contextlib.ExitStack,
) -> Source:
    """Open what the options ask for: sandbox, model, server or cluster; `stack` closes it.

    Raises:
        ApiError, CompletionsError, DatasetError, EngineError, HarnessError, ModelError, SandboxError:
            with one line for the user.
    """
    # those of an interrupted run are graded again, which is cheaper than to trust them
    kept = [] if earlier is None else stored_answers(problem_set, earlier)
    if options.engine == "ray":
        work = _work(options, problem_set, kept)
        engine = stack.enter_context(
            RayEngine(work, backend=options.backend, address=options.ray_address, say=print_note)
        )
        return _source(options, work.n, engine.facts(), engine.batches())
    sandbox = stack.enter_context(open_sandbox(options.backend))
    if not options.api_base and options.engine == "local":
        work = _work(options, problem_set, kept)
        worker = Worker(work, sandbox)
        facts = worker.facts
        return _source(options, work.n, facts, worker.batches())

    if not options.skip_harness_check:
        check_harness(problem_set, sandbox, timeout_s=options.timeout_s)
    done = {(answer.problem.task_id, answer.sample_index) for answer in kept}
    policy, sampling = None, _sampling(options)
    if options.api_base:
        assert options.model is not None  # noqa: S101 - check_options
        facts = Facts(sandbox.name, model=options.model)
        key = os.environ.get("OPENAI_API_KEY")
        sampled = sample_served(
            problem_set.problems,
            Api(options.api_base, options.model, key=key, say=print_note),
            protocol=sampling.protocol,
            shots=sampling.shots,
            decoding=sampling.decoding,
            n_at_once=sampling.batch_size,
            done=done,
        )
    else:
        policy = VllmPolicy(sampling)
        facts = policy.facts(sandbox.name)
        sampled = sample_with_vllm(problem_set.problems, policy, done=done)
    answers = chain(in_batches(kept), sampled)
    n = len(problem_set.problems) * options.n_samples
    batches = graded_batches(answers, sandbox, timeout_s=options.timeout_s)
    return replace(_source(options, n, facts, batches), policy=policy)


def _source(
    options: EvalOptions, n: int, facts: Facts, batches: Iterable[Sequence[GradedAnswer]]
) -> Source:
    """Name what the options ask for."""
    content: dict[str, object] = {}
    protocol_sha256 = None
    if options.completions is not None:
        label, protocol, decoding = findable(options.completions.stem), "recorded", "recorded"
        content = {"completions_sha256": _sha256(options.completions.read_bytes())}
    elif options.gold:
        label, protocol, decoding = "gold", "gold", "none"
    else:
        label = folder_label(Path(facts.adapter)) if facts.adapter else name_label(str(facts.model))
        protocol, decoding = options.protocol.name, options.decoding.name
        protocol_sha256 = options.protocol.sha256
        content = {"templates": dict(options.protocol.templates)}
    return Source(
        label=options.label or label,
        protocol=protocol,
        protocol_sha256=protocol_sha256 or _sha256(protocol.encode()),
        decoding=decoding,
        n=n,
        facts=facts,
        batches=batches,
        content=content,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _work(options: EvalOptions, problem_set: ProblemSet, kept: Sequence[Answer]) -> Work:
    if options.completions is not None:
        answers = read_completions(options.completions, problem_set)
        # The limit counts the problems that the file holds.
        task_ids = list(dict.fromkeys(answer.problem.task_id for answer in answers))
        chosen = set(task_ids[: options.limit])
        recorded = tuple(answer for answer in answers if answer.problem.task_id in chosen)
        return Work(problem_set, recorded, timeout_s=options.timeout_s)
    if options.gold:
        gold = tuple(gold_answers(problem_set.problems))
        if not gold:
            raise DatasetError(
                f"--gold must find reference solutions, got none in {problem_set.name}; add the column reference"
            )
        return Work(problem_set, gold, timeout_s=options.timeout_s)
    return Work(
        problem_set,
        tuple(kept),
        sampling=_sampling(options),
        timeout_s=options.timeout_s,
        check=not options.skip_harness_check,
    )


def _sampling(options: EvalOptions) -> Sampling:
    nothing_named = options.model is None and options.adapter is None
    return Sampling(
        model=DEFAULT_MODEL if nothing_named else options.model,
        adapter=options.adapter,
        protocol=options.protocol,
        shots=load_shots(options.protocol, mbpp_dir=options.mbpp_dir),
        decoding=options.decoding,
        batch_size=options.batch_size,
        device=options.device,
        dtype=options.dtype,
        load_in_4bit=options.load_in_4bit,
        allow_other_base=options.allow_other_base,
        chat_template_kwargs=options.chat_template_kwargs,
        chat_template=options.chat_template,
    )


def stored_answers(problem_set: ProblemSet, earlier: StoredEval) -> list[Answer]:
    """Return the answers of an evaluation, finished or not, without their grades."""
    by_id = {problem.task_id: problem for problem in problem_set.problems}
    return [
        Answer(
            problem=by_id[row.task_id],
            completion=row.completion,
            sample_index=row.sample_index,
            prompt=row.prompt,
            n_tokens=row.n_completion_tokens,
            truncated=row.truncated,
        )
        for row in earlier.results.values()
    ]
