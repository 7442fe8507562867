"""Whole programs: what they read and print, how each run ends, and that nothing expected is sent."""

import pytest

from sandbox.client import open_sandbox
from sandbox.pool import cases
from sandbox.program import Case, Comparison, Program, Verdict

HELD_BACK = "an answer that only the host knows"


@pytest.fixture(
    scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
def sandbox(request):
    with open_sandbox(request.param, n_workers=2) as opened:
        yield opened


def program(code, *pairs, **options):
    return Program(code, (), (), cases=tuple(Case(*pair) for pair in pairs), **options)


def verdicts(sandbox, *programs):
    return [[r.verdict.value for r in found.results] for found in sandbox.run(programs)]


READERS = {
    "input": "print(input()[::-1])",
    "stdin": "import sys\nprint(sys.stdin.read().strip()[::-1])",
    "readline": "import sys\ninput = sys.stdin.readline\nprint(input().strip()[::-1])",
    "lines": "import sys\nfor line in sys.stdin:\n    print(line.strip()[::-1])",
    "buffer": "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read().strip()[::-1])",
    "open 0": "print(open(0).read().strip()[::-1])",
    "dev": "print(open('/dev/stdin').read().strip()[::-1])",
    "os": "import os\nos.write(1, os.read(0, 100).strip()[::-1])",
    "fdopen": "import os\nprint(os.fdopen(0).read().strip()[::-1])",
    "main guard": "def main():\n    print(input()[::-1])\nif __name__ == '__main__':\n    main()",
    "thread": "import threading\nthreading.Thread(target=lambda: print(input()[::-1])).start()",
    "exit": "import sys\nprint(input()[::-1])\nsys.exit(0)",
    "quit": "print(input()[::-1])\nquit()",
    "at exit": "import atexit\natexit.register(lambda: print(input()[::-1]))",
    "closed": "import sys\nprint(input()[::-1])\nsys.stdout.close()",
    "replaced": "import io, sys\nout, sys.stdout = sys.stdout, io.StringIO()\nsys.stdout = out\nprint(input()[::-1])",
    "dataclass": "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: str\nprint(A(input()).x[::-1])",
}


@pytest.mark.parametrize("name", READERS)
def test_each_usual_way_to_read_and_print_is_there(sandbox, name):
    assert verdicts(sandbox, program(READERS[name], ("abc\n", "cba"))) == [["passed"]]


ENDS = {
    "wrong": ("print(2)", "failed", None),
    "nothing": ("pass", "failed", None),
    "status": ("print(1)\nexit(1)", "error", "SystemExit"),
    "raises": ("print(1)\nraise ValueError('x')", "error", "ValueError"),
    "no input": ("print(1)\ninput()", "error", "EOFError"),
    "syntax": ("print(1", "error", "SyntaxError"),
    "killed": ("import os\nprint(1, flush=True)\nos._exit(0)", "crashed", None),
    "endless": ("print(1, flush=True)\nwhile True: pass", "timeout", None),
    "large": ("x = [0] * 10**9", "memory", "MemoryError"),
    "flood": ("print('1' * 5_000_000)", "failed", None),
}


@pytest.mark.parametrize("name", ENDS)
def test_each_end_has_its_own_verdict(sandbox, name):
    code, verdict, exception = ENDS[name]
    (found,) = sandbox.run([program(code, ("", "1"), timeout_s=0.5)])
    assert (found.results[0].verdict.value, found.results[0].exception) == (verdict, exception)


def test_the_first_differing_line_is_told(sandbox):
    (found,) = sandbox.run([program("print(1)\nprint(2)\nprint(4)", ("a\nb", "1\n2\n3\n5"))])
    result = found.results[0]
    assert (result.got, result.expected) == ("line 3: '4'", "line 3: '3'")
    assert result.call == "the input 'a\\nb'"


def test_results_stand_in_order_among_programs_with_asserts(sandbox):
    plain = Program("def f(x):\n    return x", ("assert f(1) == 1", "assert f(1) == 2"), ("f",))
    doubled = program("print(2 * int(input()))", ("1", "2"), ("2", "5"), ("3", "6"))
    assert verdicts(sandbox, doubled, plain, doubled) == [
        ["passed", "failed", "passed"],
        ["passed", "failed"],
        ["passed", "failed", "passed"],
    ]


def test_a_program_that_takes_all_its_time_is_not_asked_later_rounds(sandbox):
    code = "n = int(input())\nwhile n > 1: pass\nprint(n)"
    asked = [(str(n), str(n)) for n in range(9)]
    (found,) = verdicts(sandbox, program(code, *asked, timeout_s=0.3))
    assert found == ["passed", "passed", "timeout", *["not_run"] * 6]


def test_runs_of_one_program_share_nothing(sandbox):
    code = "import math\nprint(getattr(math, 'seen', 0))\nmath.seen = 1"
    assert verdicts(sandbox, program(code, *[("", "0")] * 4)) == [["passed"] * 4]


def test_the_memory_limit_of_a_problem_holds(sandbox):
    code = "x = bytearray(300 << 20)\nprint(len(x) > 0)"
    small = program(code, ("", "True"), memory_bytes=64 << 20)
    assert verdicts(sandbox, small, program(code, ("", "True"))) == [["memory"], ["passed"]]


class Recorded:
    """Keeps what is sent to the sandbox."""

    def __init__(self, pool):
        self._execute = pool._run_jobs
        self.runs = []

    def __call__(self, runs):
        self.runs += runs
        return self._execute(runs)


def test_what_is_expected_is_never_sent_with_a_program(sandbox):
    seen = Recorded(sandbox)
    wanted = program(
        "print(input())", ("in 1", HELD_BACK), ("in 2", HELD_BACK), ("in 3", HELD_BACK)
    )
    cases.run_cases([wanted], seen)
    assert len(seen.runs) == 3
    assert all(HELD_BACK not in str(run.job) for run in seen.runs)


SUM = "def check(stdin, output, expected):\n    a, b = map(int, output.split())\n    return a + b == int(stdin)"


@pytest.mark.parametrize(
    ("checker", "printed", "verdict", "expected"),
    [
        (SUM, "3 7", Verdict.PASSED, None),
        (SUM, "3 8", Verdict.FAILED, "one that the checker accepts"),
        (SUM, "three", Verdict.FAILED, "an output that the checker can read (ValueError)"),
        ("def check(stdin, output, expected):\n    return 'a reason'", "1", Verdict.FAILED, "a reason"),
        ("def check(stdin, output, expected):\n    return 1", "1", Verdict.PASSED, None),
        ("def check(*_):\n    print('true')\n    return False", "1", Verdict.FAILED, "one that the checker accepts"),
        ("import os\ndef check(*_):\n    os._exit(0)", "1", Verdict.UNJUDGED, None),
    ],
)  # fmt: skip
def test_a_checker_decides_in_a_process_of_its_own(sandbox, checker, printed, verdict, expected):
    given = program(f"print({printed!r})", ("10", "5 5"), comparison=Comparison(checker=checker))
    (found,) = sandbox.run([given])
    assert (found.results[0].verdict, found.results[0].expected) == (verdict, expected)


def test_a_program_cannot_speak_for_its_checker(sandbox):
    code = (
        "def check(*_):\n    return True\n"
        "import builtins, json\nbuiltins.check = check\njson.dumps = lambda _: 'true'\nprint('x')"
    )
    given = program(code, ("10", "5 5"), comparison=Comparison(checker=SUM))
    assert verdicts(sandbox, given) == [["failed"]]


FORGED = [
    b'["load",null]\n["assert",0,null,["1"]]\n["end","",false]\n',
    b'["load",null]\n["assert",0,null,[{"Z":"eJw="}]]\n["end","",false]\n',
    b'["load",null]\n["assert",0,null,[true]]\n["end","",false]\n',
    b'["assert",0,null,[[1]]]\n',
    b"x" * 70_000,
]


@pytest.mark.parametrize("lines", FORGED)
def test_a_forged_result_is_only_ever_an_output(sandbox, lines):
    # What the program writes there is what it could have printed: it passes nothing that it cannot print.
    (found,) = sandbox.run(
        [program(f"import os\nos.write(3, {lines!r})\nos._exit(0)", ("", HELD_BACK))]
    )
    assert found.results[0].verdict in (Verdict.FAILED, Verdict.CRASHED)
