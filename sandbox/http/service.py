"""What each path does with a body, without a web around it: parse, run on the sandbox, answer."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.guest.protocol import ProtocolError
from sandbox.http import protocol
from sandbox.http.door import Door
from sandbox.http.metrics import Metrics
from sandbox.http.run_code import RunCodeRequest, script, told
from sandbox.judge.called import called_names
from sandbox.judge.explain import sentences
from sandbox.judge.verdict import clean
from sandbox.pool.jobs import planned
from sandbox.pool.pool import Pool
from sandbox.program import Case, Comparison, Execution, Program, SandboxError

RETRY_S = 1
"""When to come again where there was no room, in seconds."""
_RETRY_BROKEN_S = 5


@dataclass(frozen=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes
    retry_after_s: int | None = None


def refusal(status: int, code: str, error: str, *, retry_after_s: int | None = None) -> Answer:
    """Return an answer that says why there is no other."""
    content = {"error": clean(error, 2000), "code": code}
    return Answer(status, protocol.write(content), retry_after_s)


class Service:
    """Judges and runs what bodies ask for; safe to use from several threads."""

    def __init__(self, sandbox: Pool, *, max_body_bytes: int = protocol.MAX_BODY_BYTES) -> None:
        self.sandbox = sandbox
        self.max_body_bytes = max_body_bytes
        self.metrics = Metrics()

    def info(self) -> Answer:
        """Say what this server is."""
        info = protocol.Info(
            protocol=1,
            sandbox=clean(self.sandbox.name, 2000),
            slots=self.sandbox.slots,
            max_body_bytes=self.max_body_bytes,
            max_programs=protocol.MAX_PROGRAMS,
        )
        return Answer(200, protocol.write(info))

    def judge(self, body: bytes) -> Answer:
        """Answer `/v1/judge`."""
        try:
            request = protocol.read(protocol.JudgeRequest, body)
            programs = [_program(place, wire) for place, wire in enumerate(request.programs)]
            executions = self.sandbox.run(programs)
        except ValueError as error:
            return refusal(422, "bad_request", str(error))
        except SandboxError as error:
            return _broken(error)
        self.metrics.programs(
            len(programs),
            (result.verdict.value for execution in executions for result in execution.results),
        )
        content = {
            "sandbox": clean(self.sandbox.name, 2000),
            "executions": [
                protocol.wire_execution(
                    execution, feedback=_feedback(program, execution) if request.feedback else None
                )
                for program, execution in zip(programs, executions, strict=True)
            ],
        }
        return Answer(200, protocol.write(content))

    def run_code(self, body: bytes) -> Answer:
        """Answer `/run_code`."""
        try:
            request = protocol.read(RunCodeRequest, body)
            job = script(request.code, request.stdin or "")
            outcome = self.sandbox.outcome(job, timeout_s=request.run_timeout)
        except ValueError as error:
            return refusal(422, "bad_request", str(error))
        except SandboxError as error:
            return _broken(error)
        self.metrics.programs(1)
        return Answer(200, protocol.write(told(outcome)))

    def metrics_text(self, door: Door) -> str:
        """Return what `/metrics` says."""
        health = self.sandbox.health
        return self.metrics.text(
            {
                "requests_waiting": door.n_waiting,
                "requests_at_work": door.n_at_work,
                "request_bytes": door.n_bytes,
                "slots": self.sandbox.slots,
                "supervisors_lost_total": health.n_lost,
                "programs_starved_total": health.n_starved,
                "supervisors_restarted_total": health.n_restarts,
                "canaries_failed_total": health.n_canary_failures,
            }
        )


def _program(place: int, wire: protocol.WireProgram) -> Program:
    """Return a program of a request, its asserts parsed."""
    try:
        callables = wire.callables
        if callables is None:
            callables = list(called_names(wire.asserts, wire.imports))
        program = Program(
            code=wire.code,
            asserts=tuple(wire.asserts),
            callables=tuple(callables),
            imports=tuple(wire.imports),
            setup_code=wire.setup_code,
            timeout_s=wire.timeout_s,
            cases=tuple(Case(case.stdin, case.expected) for case in wire.cases),
            comparison=Comparison(**wire.comparison.model_dump()),
            memory_bytes=wire.memory_bytes,
        )
        if program.asserts and program.cases:
            raise ProtocolError("a program must have asserts or cases, got both; send two")
        planned(program)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ProtocolError(f"programs.{place}: {clean(str(error), 300)}") from error
    return program


def _feedback(program: Program, execution: Execution) -> str | None:
    """What failed, in words; None for a pass."""
    return clean("\n".join(sentences(program.code, execution.results)), 2000) or None


def _broken(error: SandboxError) -> Answer:
    return refusal(503, "sandbox_failed", str(error), retry_after_s=_RETRY_BROKEN_S)
