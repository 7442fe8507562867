"""A sandbox that decides without running anything, so that the trainer is tested apart from the wall."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from evaluator.answers.extract import Extraction
from evaluator.grading.grade import Grade
from sandbox.program import AssertResult, Execution, Program, Verdict


class HashSandbox:
    """Passes or fails each assert by a hash of the code: arbitrary, but the same in every run."""

    name = "fake"

    def __init__(self) -> None:
        self.n_programs = 0

    def run(self, programs: Sequence[Program]) -> list[Execution]:
        self.n_programs += len(programs)
        return [self._execute(program) for program in programs]

    def _execute(self, program: Program) -> Execution:
        digest = zlib.crc32(program.code.encode("utf-8", "surrogatepass"))
        verdicts = [
            Verdict.PASSED if digest >> i & 3 else Verdict.FAILED
            for i in range(len(program.asserts))
        ]
        results = tuple(
            AssertResult(assertion, verdict, expected="1", got="2", call="f()")
            for assertion, verdict in zip(program.asserts, verdicts, strict=True)
        )
        return Execution(results=results, cpu_ms=1.0, wall_ms=1.0, peak_memory_bytes=1 << 20)

    def grade(self, pairs, _sandbox=None, *, timeout_s=0.0) -> list[Grade]:
        """In the place of `trainer.rollouts.rollouts.grade`: the whole text is the program, and is hashed."""
        return [
            Grade(
                problem=problem,
                completion=text,
                extraction=Extraction(code=text, reason=None, n_blocks=1),
                execution=self._execute(Program(text, problem.asserts, problem.callables)),
            )
            for problem, text in pairs
        ]

    def close(self) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exc: object) -> None:
        pass
