"""One behaviour suite over every backend; KNOWN_FAILURES and NOT_PROMISED list what a backend cannot do."""

import math
import os

import pytest

from sandbox.client import open_sandbox
from sandbox.program import Program, Verdict

KNOWN_FAILURES: dict[tuple[str, str], str] = {
    ("gvisor", "test_a_program_has_the_limits_that_gvisor_lacks"): (
        "it refuses to set them; the filter and the limit on the container's processes remain"
    ),
}
"""(backend, name of a test) that it fails, and why."""
NOT_PROMISED: dict[tuple[str, str], str] = {
    ("gvisor", "test_a_program_may_use_its_whole_time_on_a_busy_machine"): (
        "gVisor does not say how long a program waited for a processor, so all of its wall-clock time counts"
    ),
}
"""(backend, name of a test) that it passes or fails as the machine's load has it, and why."""


@pytest.fixture(
    scope="module",
    params=[
        "process",
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("gvisor", marks=[pytest.mark.docker, pytest.mark.gvisor]),
        pytest.param("http", marks=pytest.mark.slow),
    ],
)
def pool(request):
    if request.param == "http":
        pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
        from sandbox.http.remote import Remote
        from sandbox.http.server import Server

        with open_sandbox("process", own=True) as there, Server(there) as server:
            with Remote(server.url) as remote:
                yield remote
        return
    with open_sandbox(request.param, own=True) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _known_failure(request):
    test = (request.node.callspec.params["pool"], request.node.originalname)
    if test in NOT_PROMISED:
        pytest.skip(NOT_PROMISED[test])
    if test in KNOWN_FAILURES:
        request.applymarker(pytest.mark.xfail(reason=KNOWN_FAILURES[test], strict=True))


def f(code, *asserts, callables=("f",), **options):
    return Program(code, asserts or ("assert f(1) == 2",), callables, **options)


def only(pool, program):
    (execution,) = pool.run([program])
    return execution.results


def test_a_right_program_passes(pool):
    (result,) = only(pool, f("def f(x):\n    return x + 1\n"))
    assert result.verdict == Verdict.PASSED and result.trusted
    assert result.expected is result.got is result.exception is None


def test_a_wrong_value_fails_with_its_evidence(pool):
    (result,) = only(pool, f("def f(x):\n    return [x, 'a']\n"))
    assert result.verdict == Verdict.FAILED
    assert (result.call, result.expected, result.got) == ("f(1)", "2", "[1, 'a']")


def test_an_exception_has_type_message_line_and_call(pool):
    (result,) = only(pool, f("def f(x):\n    y = x\n    return y / 0\n"))
    assert result.verdict == Verdict.ERROR
    assert (result.exception, result.message) == ("ZeroDivisionError", "division by zero")
    assert (result.line, result.call) == (3, "f(1)")


def test_no_flag_of_an_open_file_passes_to_the_next_program(pool):
    code = (
        "import fcntl, os\ndef f(mark):\n    seen = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (0, 1, 2)]\n"
        "    [fcntl.fcntl(fd, fcntl.F_SETFL, seen[fd] | mark) for fd in (0, 1, 2)]\n"
        "    fcntl.ioctl(0, 0x5421, b'\\1\\0\\0\\0')\n    return seen\n"
    )
    program = f(code, f"assert f({os.O_NONBLOCK | os.O_APPEND}) == []")
    first, *later = [only(pool, program)[0].got for _ in range(7)]
    assert first is not None and later == [first] * 6


def test_a_syntax_error_is_every_asserts_error(pool):
    results = only(pool, f("x = 1\ndef f(x:\n", "assert f(1) == 2", "assert f(2) == 3"))
    assert [r.verdict for r in results] == [Verdict.ERROR] * 2
    assert {(r.exception, r.line) for r in results} == {("SyntaxError", 2)}


def test_an_exception_while_loading_is_every_asserts_error(pool):
    results = only(pool, f("\nraise KeyError('k')\n", "assert f(1) == 2", "assert f(2) == 3"))
    assert {(r.verdict, r.exception, r.line) for r in results} == {(Verdict.ERROR, "KeyError", 2)}


def test_results_come_in_order(pool):
    programs = [f(f"def f(x):\n    return {n % 3}\n") for n in range(24)]
    verdicts = [execution.results[0].verdict for execution in pool.run(programs)]
    assert verdicts == [Verdict.PASSED if n % 3 == 2 else Verdict.FAILED for n in range(24)]


def test_no_programs_give_no_results(pool):
    assert pool.run([]) == []


def test_no_asserts_give_no_verdicts(pool):
    assert only(pool, Program("x = 1", (), ())) == ()


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.exit(0)",
        "def f(x):\n    raise SystemExit(0)",
        "import os\nos._exit(0)",
        "def f(x):\n    import os\n    os._exit(0)",
        "def f(x): pass",
        "",
    ],
)
def test_silence_and_exit_zero_are_not_a_pass(pool, code):
    (result,) = only(pool, f(code))
    assert result.verdict in (Verdict.ERROR, Verdict.CRASHED, Verdict.FAILED)


def test_what_follows_a_crash_is_not_run(pool):
    code = "import os\ndef f(x):\n    return 2 if x == 1 else os._exit(0)\n"
    results = only(pool, f(code, "assert f(1) == 2", "assert f(2) == 3", "assert f(3) == 4"))
    assert [r.verdict for r in results] == [Verdict.PASSED, Verdict.CRASHED, Verdict.NOT_RUN]
    assert "status 0" in results[1].message


@pytest.mark.parametrize("body", ["while True: pass", "__import__('time').sleep(60)"])
def test_a_program_that_does_not_end_times_out(pool, body):
    (execution,) = pool.run([f(f"def f(x):\n    {body}\n", timeout_s=0.3)])
    assert execution.results[0].verdict == Verdict.TIMEOUT
    assert execution.wall_ms < 5000


def test_a_program_may_use_its_whole_time_on_a_busy_machine(pool):
    spin = (
        "import time\ndef f(x):\n    t = time.process_time()\n"
        "    while time.process_time() < t + 0.15: pass\n    return 2\n"
    )
    executions = pool.run([f(spin, timeout_s=0.3)] * 6)
    assert {execution.results[0].verdict for execution in executions} == {Verdict.PASSED}


@pytest.mark.parametrize(
    "code",
    [
        "def f(x): return bytearray(10**12)",
        "def f(x): return [bytearray(2**26) for _ in range(1000)]",
    ],
)
def test_too_much_memory_is_memory(pool, code):
    (result,) = only(pool, f(code))
    assert result.verdict == Verdict.MEMORY


def test_a_segmentation_fault_is_a_crash(pool):
    (result,) = only(pool, f("import ctypes\ndef f(x): return ctypes.string_at(0)\n"))
    assert result.verdict == Verdict.CRASHED and "SIGSEGV" in result.message


def test_imports_run_before_and_setup_after_the_candidate(pool):
    program = Program(
        code="class Node:\n    def __init__(self, v): self.v = math.floor(v)\ndef f(n): return n.v\n",
        asserts=("assert f(root) == 1", "assert (f(Node(2.5))) == 2"),
        callables=("Node", "f"),
        imports=("import math",),
        setup_code="root = Node(1.5)\n",
    )
    assert [r.verdict for r in only(pool, program)] == [Verdict.PASSED] * 2


def test_setup_code_that_fails_is_the_candidates_error(pool):
    (result,) = only(pool, f("def f(x): return 2", setup_code="root = Node(1)"))
    assert (result.verdict, result.exception) == (Verdict.ERROR, "NameError")


@pytest.mark.parametrize(
    ("code", "assertion"),
    [
        ("def f(x): return [x, x]", "assert set(f(1)) == set([1])"),
        ("def f(x): return 2.0", "assert int(f(1)) == 2"),
        ("def f(x): return 2.0001", "assert math.isclose(f(1), 2, rel_tol=0.001)"),
        ("def f(x): return 2", "assert f(1)"),
        ("def f(x): return ''", "assert not f(1)"),
        ("def f(x): return None", "assert f(1) is None"),
        ("def f(x): return 3.14159", "assert abs(f(1) - 3.14) < 0.01"),
        ("def f(x): return 3.14159", "assert round(f(1), 2) == 3.14"),
        ("def f(x): return 1j", "assert f(1) == 1j and f(2) != 2"),
        (
            "import sys\ndef f(x): return sys.getsizeof(x)",
            "assert f((1, 2)) == sys.getsizeof((1, 2))",
        ),
        ("def f(x):\n  yield x", "assert list(f(1)) == [1]"),
        ("def f(x): return range(x)", "assert f(3) == range(0, 3)"),
        ("def f(x): return {1: 2}.keys()", "assert f(3) == {1}"),
        ("def f(x): return x", "assert f('\\ud800\\x00') == '\\ud800\\x00', 'message'"),
        ("def f(x): return {(1, 2): {3}, None: b'a'}", "assert f(1) == {(1, 2): {3}, None: b'a'}"),
        ("def f(x): return [int, 2**100, -2**70]", "assert f(1) == [int, 2**100, -(2**70)]"),
        ("class f:\n  def __init__(s, x): s.x = x\n  def g(s): return s.x", "assert f(3).g() == 3"),
    ],
)
def test_an_assert_of_this_shape_is_judged_outside(pool, code, assertion):
    (result,) = only(pool, f(code, assertion, imports=("import math",)))
    assert (result.verdict, result.trusted) == (Verdict.PASSED, True), result


@pytest.mark.parametrize(
    "assertion",
    [
        "assert [f(i) for i in (1, 2) if f(i)] == [2, 3]",
        "assert f(1) == f(1)",
        "assert True",
        "assert (lambda x: f(x))(1)",
    ],
)
def test_an_assert_of_another_shape_is_not_trusted(pool, assertion):
    (result,) = only(pool, f("def f(x): return x + 1", assertion))
    assert (result.verdict, result.trusted) == (Verdict.PASSED, False)


def test_an_interpreters_own_answer_is_not_the_candidates(pool):
    code = "import sys\nsys.getsizeof = lambda x: 7\ndef f(x): return 7\n"
    (result,) = only(pool, f(code, "assert f(1) == sys.getsizeof(1)", imports=("import sys",)))
    assert (result.verdict, result.trusted) == (Verdict.FAILED, True)


@pytest.mark.parametrize(
    "code",
    [
        "def f(x): return 2\n\0",
        "def f(x): return '\ud800'",
        "x = (" * 5000,
        "é = '\x1b[2J' é",
        "f = " + "-" * 3000 + "2",
    ],
)
def test_a_hostile_source_gets_a_clean_verdict(pool, code):
    (result,) = only(pool, f(code))
    assert result.verdict in (Verdict.ERROR, Verdict.MEMORY, Verdict.CRASHED)


def test_two_megabytes_of_source_get_a_verdict(pool):
    (result,) = only(pool, f("def f(x): return 2\n" + "#" * 2_000_000))
    assert result.verdict == Verdict.PASSED


def test_forty_megabytes_of_source_get_a_clean_verdict(pool):
    (result,) = only(pool, f("#" * 40_000_000))
    assert (result.verdict, result.exception) == (Verdict.ERROR, "ProgramTooLarge")


def test_prints_are_kept_in_part_and_do_not_matter(pool):
    (execution,) = pool.run([f("def f(x):\n    print('a' * 100_000, 'END')\n    return 2\n")])
    assert execution.results[0].verdict == Verdict.PASSED
    assert execution.output_truncated and execution.output_tail.endswith("END\n")
    assert len(execution.output_tail) <= 4096


def test_an_execution_says_what_it_cost(pool):
    (execution,) = pool.run([f("def f(x): return sum(range(2_000_000)) and 2")])
    assert 0 < execution.cpu_ms < 10_000 and 0 < execution.wall_ms
    assert 1 << 20 < execution.peak_memory_bytes < 1 << 30


def test_nothing_a_program_writes_is_unprintable_or_unbounded(pool):
    code = "class E(Exception): pass\nE.__name__ = '\\x1b' * 10**6\ndef f(x): raise E('\\x00\\u202e' + 'é' * 10**6)\n"
    (result,) = only(pool, f(code))
    assert result.verdict == Verdict.ERROR
    assert len(result.exception) <= 100 and len(result.message) <= 300
    assert result.message.count("\x00") == result.exception.count("\x1b") == 0


def test_a_bad_limit_is_the_callers_mistake(pool):
    with pytest.raises(ValueError, match="timeout_s must lie between"):
        pool.run([f("", timeout_s=0.0)])
    with pytest.raises(ValueError, match="timeout_s must lie between"):
        pool.run([f("", timeout_s=math.inf)])


def test_an_assert_that_is_none_is_the_callers_mistake(pool):
    with pytest.raises(ValueError, match="one assert statement"):
        pool.run([f("", "f(1) == 2")])


def test_the_hash_seed_is_fixed(pool):
    code = "def f(x): return hash('a')"
    got = {e.results[0].got for e in pool.run([f(code)] * 4)}
    assert len(got) == 1


def test_a_program_that_draws_numbers_gets_the_same_verdict_in_every_run(pool):
    code = "import random\ndef f(x):\n    return random.random(), random.sample(range(99), 5)\n"
    drawn = {execution.results[0].got for execution in pool.run([f(code)] * 8)}
    assert len(drawn) == 1 and None not in drawn


def test_a_program_has_the_limits_of_the_slot(pool):
    code = (
        "import resource\ndef f(names):\n"
        "    return {n: resource.getrlimit(getattr(resource, 'RLIMIT_' + n))[1] for n in names.split()}\n"
    )
    wanted = {"CORE": 0, "FSIZE": 0, "MEMLOCK": 0, "NOFILE": 64}
    (result,) = only(pool, f(code, f"assert f('CORE FSIZE MEMLOCK NOFILE') == {wanted}"))
    assert result.verdict == Verdict.PASSED, result.got


def test_a_program_has_the_limits_that_gvisor_lacks(pool):
    code = (
        "import resource\ndef f():\n    return resource.getrlimit(resource.RLIMIT_MSGQUEUE)[1], "
        "resource.getrlimit(resource.RLIMIT_NPROC)[1]\n"
    )
    # on the process backend a program has no user of its own, so nothing counts that user's processes
    wanted = "f() == (0, 24)" if pool.name.startswith("docker") else "f()[0] == 0"
    (result,) = only(pool, f(code, f"assert {wanted}"))
    assert result.verdict == Verdict.PASSED, result.got
