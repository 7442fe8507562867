"""The judge says what plain Python says of drawn programs and asserts; what it does not say is explained.

A case is one assert. The default run draws 500 for the process backend, of which Docker judges the first
200, too; the slow tests draw 50,000 for Docker.
"""

import functools
import json

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sandbox.client import open_sandbox
from sandbox.containers.image import current_image
from sandbox.program import Program, Verdict
from tests.differential import cases, plain
from tests.scale import scaled

PER_PROGRAM = 100
MAX_EXPLAINED = 0.01
"""Of the asserts that plain Python passes: those the judge may leave unjudged or untrusted."""


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def backend(request):
    return request.param


@functools.cache
def drawn(n):
    """Programs of PER_PROGRAM cases each, the same in every run."""
    programs = []

    @settings(
        max_examples=n // PER_PROGRAM,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(st.lists(cases.cases(), min_size=PER_PROGRAM, max_size=PER_PROGRAM))
    def draw(chosen):
        asserts = tuple(cases.source(case, index) for index, case in enumerate(chosen))
        text = cases.program_text(chosen)
        programs.append(Program(text, asserts, ("f",), imports=cases.IMPORTS, timeout_s=60.0))

    draw()
    return programs


def compare(programs, backend):
    """What differs without an explanation, how many pass natively, and how many of these are explained."""
    image = current_image() if backend == "docker" else None
    with open_sandbox(backend, own=True) as sandbox:
        executions = sandbox.run(programs)
    silent, n_passed, n_explained = [], 0, 0
    for execution, outcomes in zip(executions, plain.outcomes(programs, image), strict=True):
        for result, outcome in zip(execution.results, outcomes, strict=True):
            passes = result.trusted and result.verdict is Verdict.PASSED
            n_passed += outcome == "passed"
            if passes == (outcome == "passed"):
                continue
            if not passes and not result.trusted:
                n_explained += 1  # it says itself that it is no verdict
                continue

            silent.append((result.assertion, outcome, result.verdict.value, result.got))
    return silent, n_passed, n_explained


def check(n, backend, *, of):
    programs = drawn(of)[: n // PER_PROGRAM]
    silent, n_passed, n_explained = compare(programs, backend)
    assert silent == []
    assert n_passed > n / 10, "the cases must not all fail"
    assert n_explained <= n_passed * MAX_EXPLAINED


def test_drawn_cases_are_judged_as_plain_python_does(backend):
    check({"process": 200, "docker": 100}[backend], backend, of=500)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.docker
def test_fifty_thousand_drawn_cases_are_judged_as_plain_python_does():
    check(scaled(50_000), "docker", of=scaled(50_000))


STAGE = """
__name__ == '__main__' or __name__
'__file__' in globals()
sys.argv
sys.orig_argv[1:2]
hasattr(sys.modules['__main__'], 'main')
sys.flags.optimize, sys.flags.utf8_mode, sys.flags.dev_mode
type(exit), type(quit), type(help), callable(copyright), callable(license), callable(credits)
sorted(name for name in dir(builtins) if name != '_')
sys.stdin.read(), sys.stdin.fileno(), sys.stdin.isatty(), sys.stdin.name, sys.stdin.errors
sys.stdin.buffer.read(), sys.stdin.encoding, sys.stdin.readable(), sys.stdin.writable()
sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout is sys.stderr, sys.stdout.name, sys.stderr.name
sys.stdout.encoding, sys.stdout.errors, sys.stderr.encoding, sys.stderr.errors
locale.getlocale(), locale.getpreferredencoding(), sys.getfilesystemencoding()
warned(UserWarning), warned(DeprecationWarning), warned(ResourceWarning)
[(action, category.__name__) for action, _, category, *_ in warnings.filters]
depth()
raises(input), raises(exit), raises(lambda: exit(3)), raises(lambda: print(chr(0xd800)))
typing.get_type_hints(hinted), hinted.__annotations__
compile('1', 'x', 'eval').co_flags, compile('def g(x: y): pass', 'x', 'exec').co_consts[0] is None
gc.isenabled(), sys.gettrace(), sys.getprofile(), sys.getswitchinterval()
signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(signal.SIGTERM)
threading.current_thread() is threading.main_thread(), threading.active_count()
decimal.getcontext().prec, sys.get_int_max_str_digits(), sys.float_repr_style
hash('a'), list({'a', 'b', 'c', 'd'})
os.getcwd() == '/' or os.path.isabs(os.getcwd())
__debug__, __spec__, __doc__
""".strip().splitlines()
"""What a program can see of the interpreter it runs in."""
SEEN = """
import builtins, decimal, gc, locale, os, signal, sys, threading, typing, warnings
def hinted(x: int): pass
def warned(category):
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn("x", category)
    return len(caught)
def down(n):
    return 0 if n == 0 else 1 + down(n - 1)
def depth():
    n = 950
    while True:
        try:
            down(n)
        except RecursionError:
            return n
        n += 1
def raises(call):
    try:
        call()
    except BaseException as raised:
        return type(raised).__name__
def f(n):
""" + "".join(f"    if n == {n}: return repr(({text}))\n" for n, text in enumerate(STAGE))
STAGE_EXPLAINED = {
    "__name__ == '__main__' or __name__": "a program is imported: `if __name__ == '__main__'` is false",
    "warned(UserWarning), warned(DeprecationWarning), warned(ResourceWarning)": "of `__main__` only",
}
"""What is another on purpose; docs/sandbox.md says why."""


def test_a_program_sees_the_interpreter_that_python_c_gives_it(backend):
    text = f"{SEEN}\nimport json; sys.__stdout__.buffer.write(json.dumps(list(map(f, range({len(STAGE)})))).encode())"
    image = current_image() if backend == "docker" else None
    native = json.loads(plain.output(text, image))
    asserts = tuple(f"assert f({n}) == {value!r}" for n, value in enumerate(native))
    with open_sandbox(backend, own=True) as sandbox:
        (execution,) = sandbox.run([Program(SEEN, asserts, ("f",))])
    differing = {
        text: (value, result.got, result.message)
        for text, value, result in zip(STAGE, native, execution.results, strict=True)
        if result.verdict is not Verdict.PASSED
    }
    assert {text: seen for text, seen in differing.items() if text not in STAGE_EXPLAINED} == {}


LENT = [
    ("def f(x: List[int]): return x", "NameError"),
    ("cache: Dict[int, int] = {}\ndef f(x): return x", "NameError"),
    ("def f(x) -> Optional[int]: return x", "NameError"),
    ("class A:\n    n: Undefined\ndef f(x): return x", "NameError"),
    ("f = lambda x: x\ndef g(x: 1 / 0): pass", "ZeroDivisionError"),
    (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    a: Missing\ndef f(x): return x",
        "NameError",
    ),
    ("x = os.getpid()\ndef f(x): return x", "NameError"),
    ("def f(x): return json.dumps(x)", "NameError"),
    ("def f(x): return annotations", "NameError"),
    ("from __future__ import annotations\ndef f(x: List[int]): return x", None),
    (
        "def g(x: int) -> str: pass\ndef f(x): return x if g.__annotations__['x'] is int else 0",
        None,
    ),
    ("def f(x):\n    exec('def g(y: Nowhere): pass')\n    return x", "NameError"),
]


@pytest.mark.parametrize(("code", "exception"), LENT)
def test_nothing_of_the_guests_own_module_is_lent_to_a_program(code, exception, stage):
    (execution,) = stage.run([Program(code, ("assert f(1) == 1",), ("f",))])
    (result,) = execution.results
    # Python 3.14 evaluates annotations only when they are asked for.
    assert result.exception == exception
    assert (result.verdict is Verdict.PASSED) == (exception is None)


def test_setup_code_and_imports_have_no_future_of_ours(stage):
    program = Program(
        "def f(x): return x",
        ("assert f(1) == 1",),
        ("f",),
        setup_code="def helper(x: Nowhere): pass",
    )
    (execution,) = stage.run([program])
    assert execution.results[0].exception == "NameError"


@pytest.fixture(scope="module")
def stage():
    with open_sandbox("process", own=True) as sandbox:
        yield sandbox
