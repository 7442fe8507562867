"""MBPP+ and HumanEval+ rows of our own in evalplus' form: what is expected, what is left out, who passes."""

import copy
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from evaluator.cli.eval import eval_command
from evaluator.grading.grade import grade
from evaluator.problems.evalplus import expected
from evaluator.problems.evalplus.inputs import arguments_of
from evaluator.problems.mbpp import load_problems
from evaluator.problems.problem import DatasetError
from evaluator.problems.problem_file import examine
from evaluator.problems.prompt import conversation, usual_protocol
from evaluator.sampling.completions import gold_answers
from sandbox.attack import load as load_attacks
from sandbox.client import open_sandbox
from sandbox.program import Verdict

ROOT = Path(__file__).parents[3]
FILES = {name: ROOT / "examples" / "own" / f"{name}_plus.jsonl" for name in ("mbpp", "humaneval")}
ROWS = {name: [json.loads(line) for line in path.open()] for name, path in FILES.items()}


@pytest.fixture(scope="module")
def sandbox():
    with open_sandbox("process", n_workers=1) as found:
        yield found


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sdpo-bench" / "expected"


@pytest.fixture
def read(tmp_path, sandbox):
    def write(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return examine(path, sandbox=sandbox)

    return write


def row(code="def f(x):\n    return x\n", inputs=([1],), **changes):
    return {
        "task_id": "Mbpp/9000",
        "prompt": '"""\nReturn it.\nassert f(1) == 1\n"""\n',
        "entry_point": "f",
        "canonical_solution": code,
        "base_input": list(inputs),
        "plus_input": [],
        "atol": 0,
        "contract": "",
        **changes,
    }


def verdicts(pairs, sandbox):
    """For each answer, whether each test passed and is trusted."""
    grades = grade([(problem, f"```python\n{code}\n```") for problem, code in pairs], sandbox)
    return [
        [r.trusted and r.verdict is Verdict.PASSED for r in g.execution.results] for g in grades
    ]


# ------------------------------------------------------------------------- beside plain Python

WRONG = {
    "similar_elements": [
        "return list(set(first) & set(second))",
        "return first",
        "return set(first)",
        "return 5",
        "return [[]]",
    ],
    "mean": [
        "return sum(numbers) / len(numbers) + 9e-7",
        "return sum(numbers) / len(numbers) + 2e-6",
        "return sum(numbers) // len(numbers)",
        "return float('nan')",
        "return [sum(numbers) / len(numbers)]",
        "return numbers[0]",
        "return sum(numbers) / len(numbers) * (1 + 1e-8)",
    ],
    "zeros_last": [
        "items.sort(key=lambda item: item == 0)",
        "return sorted(items, reverse=True)",
        "return tuple(x for x in items if x) + tuple(x for x in items if not x)",
        "items.clear()\n    return items",
    ],
    "repeated": ["return sorted(set(text))", "return {x for x in text}", "return frozenset('a')"],
    "ends": [
        "return [min(numbers), max(numbers)]",
        "return (max(numbers), min(numbers))",
        "return (min(numbers), max(numbers), 0)[:2]",
        "return (float(min(numbers)), float(max(numbers)))",
    ],
    "text_match_three": ["return True", "return 0", "return text", "return False", "return None"],
    "root": ["return round(n ** 0.5)", "return n ** 0.5", "return str(n)", "return True"],
    "running": ["return numbers", "return [float(x) for x in numbers]", "return 1 / 0"],
    "find_zero": ["return 0.0", "return -0.5", "return '1'", "return float('nan')", "return 1"],
    "around": [
        "return (6.2831853 * radius, 3.1415927 * radius ** 2)",
        "return [2 * math.pi * radius, math.pi * radius ** 2]",
        "return (2 * math.pi * radius,)",
        "return 0.0",
    ],
    "counts": ["return {x: words.count(x) for x in words}", "return dict.fromkeys(words, 1)"],
    "last_first": [
        "return [row[::-1] for row in rows]",
        "return rows",
        "rows.reverse()\n    return rows",
    ],
    "mixed": [
        "return sum(values) / max(1, len(values))",
        "return sum(values) / len(values) + 1e-7 if values else None",
        "return int(sum(values) / len(values)) if values else None",
        "return values",
    ],
}
"""Bodies that differ from the canonical solution in something."""


def program(row, body):
    head = row["canonical_solution"] if row["prompt"].startswith('"""') else row["prompt"]
    first = next(line for line in head.split("\n") if line.startswith(f"def {row['entry_point']}("))
    return f"import math\n{first}\n    {body}\n"


def plain(row, name, code):
    """Whether an answer passes each input that fulfils the contract, by plain Python and numpy."""
    task = int(row["task_id"].partition("/")[2]) if name == "mbpp" else None
    prompt = "" if name == "mbpp" else row["prompt"]
    right, answer, checks = {}, {}, {}
    exec(prompt + row["canonical_solution"], right)  # noqa: S102
    exec(prompt + "\n" + code, answer)  # noqa: S102
    lines = (prompt + row["canonical_solution"]).split("\n")
    at = next(i for i, x in enumerate(lines) if x.startswith(f"def {row['entry_point']}("))
    exec("\n".join([*lines[: at + 1], row["contract"] or "    pass", "    return"]), checks)  # noqa: S102
    function = row["entry_point"]
    found = []
    for group in ("base_input", "plus_input"):
        tolerance = row["atol"]
        for given in row[group]:
            arguments = arguments_of(task, given)
            try:
                checks[function](*copy.deepcopy(arguments))
            except Exception:  # noqa: BLE001, S112
                continue
            wanted = right[function](*copy.deepcopy(arguments))
            if function == "text_match_three":
                wanted = wanted is not None
            parts = wanted if isinstance(wanted, list | tuple) and wanted else [wanted]
            if not tolerance and function != "find_zero":
                tolerance = 1e-6 if all(isinstance(part, float) for part in parts) else 0
            try:
                got = answer[function](*copy.deepcopy(arguments))
                found.append(bool(_right(function, arguments, got, wanted, tolerance)))
            except Exception:  # noqa: BLE001
                found.append(False)
    return found


def _right(function, arguments, got, wanted, tolerance):
    if function == "find_zero":
        return abs(sum(c * got**i for i, c in enumerate(arguments[0]))) <= tolerance
    if function == "text_match_three":
        return got == wanted if isinstance(got, bool) else (got is not None) == wanted
    if function == "similar_elements":
        return set(got) == set(wanted)
    if got == wanted or not tolerance:
        return got == wanted
    if isinstance(wanted, list | tuple) and len(got) != len(wanted):
        return False
    return type(got) is type(wanted) and np.allclose(got, wanted, rtol=1e-7, atol=tolerance)


@pytest.mark.parametrize("name", FILES)
def test_answers_fail_exactly_the_inputs_where_plain_python_differs(name, sandbox):
    by_id = {p.task_id: p for p in load_problems(str(FILES[name]), sandbox=sandbox).problems}
    asked = [(row, program(row, body)) for row in ROWS[name] for body in WRONG[row["entry_point"]]]
    got = verdicts([(by_id[row["task_id"]], code) for row, code in asked], sandbox)
    for (row, code), found in zip(asked, got, strict=True):
        assert found == plain(row, name, code), code
    assert any(map(all, got)) and not all(map(all, got))


@pytest.mark.parametrize("name", FILES)
def test_canonical_solutions_pass_and_are_in_no_sandbox_with_an_answer(name, sandbox, monkeypatch):
    asked = []
    run = sandbox.run
    monkeypatch.setattr(sandbox, "run", lambda programs: asked.extend(programs) or run(programs))
    problems = load_problems(str(FILES[name]), sandbox=sandbox).problems
    gold = [(answer.problem, answer.completion) for answer in gold_answers(problems)]
    assert all(found.passed for found in grade(gold, sandbox))
    empty = [(problem, "```python\npass\n```") for problem in problems]
    assert not any(found.passed for found in grade(empty, sandbox))
    for asked_program, (problem, _) in zip(asked[len(gold) :], empty, strict=True):
        assert problem.reference not in asked_program.code + "".join(asked_program.imports)


def test_eval_prints_the_references_and_recorded_answers_of_such_a_file(tmp_path):
    dataset = ["--dataset", str(FILES["humaneval"]), "--sandbox", "process"]
    place = ["--runs-dir", str(tmp_path / "runs"), "--json", str(tmp_path / "found.json")]
    answers = tmp_path / "answers.jsonl"
    rows = [
        {"task_id": "HumanEval/9000", "completion": ROWS["humaneval"][0]["canonical_solution"]},
        {"task_id": "HumanEval/9005", "solution": "def mixed(values):\n    return 1.5\n"},
    ]
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for words, solved in ((["--gold"], (6, 6)), (["--completions", str(answers)], (1, 2))):
        done = CliRunner().invoke(eval_command, [*words, *dataset, *place], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found = json.loads((tmp_path / "found.json").read_text())
        assert (found["k"], found["n"]) == solved


# ------------------------------------------------------------------------------------- its rules


@pytest.mark.parametrize(
    ("function", "code", "given", "answers"),
    [
        (
            "sum_div",
            "def sum_div(n):\n    return 7\n",
            [8],
            [("7", True), ("0", True), ("1", False)],
        ),
        (
            "surface_Area",
            "def surface_Area(base, height):\n    return 33\n",
            [3, 4],
            [("33", True), ("35", True), ("34", False)],
        ),
        (
            "digit_distance_nums",
            "def digit_distance_nums(a, b):\n    return 99\n",
            [1, 256],
            [("99", True), ("12", True), ("11", False)],
        ),
        (
            "Diff",
            "def Diff(a, b):\n    return [2, 1]\n",
            [1, 2],
            [("[1, 2, 2]", True), ("(2, 1)", True), ("[1]", False)],
        ),
        (
            "check_str",
            "def check_str(s):\n    return None\n",
            ["x"],
            [("None", True), ("False", True), ("0", False)],
        ),
    ],
)
def test_a_task_of_mbpp_has_the_special_rule_that_evalplus_gives_it(
    read, sandbox, function, code, given, answers
):
    mine = row(code, [given], entry_point=function)
    (found,) = read(mine)
    (own,) = read({**mine, "task_id": "mine/1"})
    names = code.partition("(")[2].partition(")")[0]
    answer = f"def {function}({names}):\n    return {{}}\n"
    pairs = [(found.problem, answer.format(value)) for value, _ in answers]
    assert [all(v) for v in verdicts(pairs, sandbox)] == [right for _, right in answers]
    strict = [all(v) for v in verdicts([(own.problem, code) for _, code in pairs], sandbox)]
    assert sum(strict) <= 1, "a row that is none of evalplus' has no special rule"


def test_the_tolerance_of_a_first_float_stays_for_the_inputs_after_it(read):
    code = "def f(x):\n    return x\n"
    (found,) = read(row(code, [[1], [0.5], [[1, 0.5]]], plus_input=[[[2, 0.5]], [[0.5]]]))
    assert found.problem.asserts == (
        "assert f(1) == 1",
        "assert judge.close(f(0.5), 0.5, 1e-06)",
        "assert judge.close(f([1, 0.5]), [1, 0.5], 1e-06)",
        "assert f([2, 0.5]) == [2, 0.5]",
        "assert judge.close(f([0.5]), [0.5], 1e-06)",
    )
    (found,) = read(row(code, [[1]], atol=0.01))
    assert found.problem.asserts == ("assert judge.close(f(1), 1, 0.01)",)


@pytest.mark.parametrize(
    ("task", "given", "wanted"),
    [
        (2, [[1], [2]], [(1,), (2,)]),
        (63, [[[1, 2], [3]]], [[(1, 2), (3,)]]),
        (75, [[[1], [2]], 3], [[(1,), (2,)], 3]),
        (106, [[1], [2]], [[1], (2,)]),
        (115, [[[1, 1], [], 0]], [[{1}, {}, {}]]),
        (124, ["1", "2j"], [1.0, 2j]),
        (250, [[1], 2], [(1,), 2]),
        (252, ["1+1j"], [1 + 1j]),
        (259, [[[1], [2]]], [((1,), (2,))]),
        (278, [[1, [2]]], [(1, (2,))]),
        (307, [[1], 2, 3], [(1,), 2, 3]),
        (580, [[1, [2, [3]]]], [(1, (2, (3,)))]),
        (722, [{"a": [1, 2]}, 3], [{"a": (1, 2)}, 3]),
        (3, [[1]], [[1]]),
        (None, [[1]], [[1]]),
    ],
)
def test_arguments_have_the_types_that_the_task_takes(task, given, wanted):
    found = arguments_of(task, given)
    assert found == wanted
    assert repr(found) == repr(wanted)


# ------------------------------------------------------------------------------ what is left out


def test_inputs_without_an_expected_value_are_left_out_and_named(read, sandbox):
    code = (
        "def f(x):\n    if x == 1:\n        raise KeyError(x)\n    if x == 2:\n        return iter([1])\n"
        "    if x == 3:\n        return float('nan')\n    if x == 4:\n        return 'a' * 60_000\n"
        "    if x == 5:\n        return list(range(30_000))\n    if x == 6:\n        return [[]] * 3\n"
        "    if x == 7:\n        exit(3)\n    if x == 8:\n        print('noise')\n    return x\n"
    )
    contract = "\n assert x != 9, 'no nine' # $_CONTRACT_$\n"
    deep = [0]
    for _ in range(80):
        deep = [deep]
    inputs = [*([n] for n in range(10)), [list(range(40_000))], deep, [1e400], [float("nan")]]
    (found,) = read(row(code, inputs, contract=contract))
    assert not found.faults
    said = dict(line.split(": ", 1) for line in found.left_out)
    places = [f"base_input {n}" for n in (2, 3, 4, 5, 6, 8, 10, 11, 12, 14)]
    assert sorted(said) == sorted(places)
    assert "raises KeyError" in said["base_input 2"] and "SystemExit" in said["base_input 8"]
    assert "violates the contract (AssertionError: no nine)" in said["base_input 10"]
    assert "at most 50000 characters" in said["base_input 5"]
    assert "NaN" in said["base_input 14"] and "deep" in said["base_input 12"]
    assert found.problem.asserts == (
        "assert f(0) == 0",
        "assert f(6) == [[], [], []]",
        "assert f(8) == 8",
        "assert judge.close(f(float('+inf')), float('+inf'), 1e-06)",
    )
    (passed,) = verdicts([(found.problem, code)], sandbox)
    assert all(passed)


def test_of_very_long_asserts_the_longest_are_left_out_and_the_rest_is_judged(read, sandbox):
    lengths = [5, 4900, 3000, 5000, 10]
    code = "def f(n):\n    return [[i] for i in range(n)]\n"
    (found,) = read(row(code, [[n] for n in lengths], plus_input=[[3500], [4000]]))
    assert [text.partition(": ")[0] for text in found.left_out] == ["base_input 2", "base_input 4"]
    assert found.problem.n_hidden == 2 and len(found.problem.asserts) == 5
    wrong = code.replace("range(n)", "range(min(n, 3499))")
    (right, some) = verdicts([(found.problem, code), (found.problem, wrong)], sandbox)
    assert (right, some) == ([True] * 5, [True, True, True, False, False])


def test_an_input_that_takes_the_solution_too_long_is_left_out(read, monkeypatch):
    monkeypatch.setattr(expected, "INPUT_S", 0.1)
    monkeypatch.setattr(expected, "TIMEOUT_S", 0.3)
    code = "def f(x):\n    while x in (1, 3):\n        pass\n    return x\n"
    (found,) = read(row(code, [[n] for n in range(6)]))
    assert [text.partition(": ")[0] for text in found.left_out] == ["base_input 2", "base_input 4"]
    assert "TimeoutError: it takes more than 0.1 s" in found.left_out[0]
    assert len(found.problem.asserts) == 4


def test_a_value_too_large_to_be_shipped_is_no_exception_of_the_answer(read, sandbox):
    (found,) = read(row("def f(n):\n    return n\n", [[3]]))
    (graded,) = grade([(found.problem, "def f(n):\n    return list(range(300_000))\n")], sandbox)
    (result,) = graded.execution.results
    assert (result.verdict, result.exception) == (Verdict.FAILED, None)
    (close,) = read(row("def f(n):\n    return n\n", [[0.5]]))
    (graded,) = grade([(close.problem, "def f(n):\n    return [0.5] * 300_000\n")], sandbox)
    assert graded.outcome in ("wrong_answer", "untrusted")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task_id": "<b>"}, "task_id must be"),
        ({"prompt": 5}, "prompt must be Unicode text"),
        ({"entry_point": "f g"}, "entry_point must be the name"),
        ({"entry_point": "judge"}, "must be no name that asserts need"),
        ({"entry_point": "g"}, "must define entry_point as a function, got no 'g'"),
        ({"canonical_solution": "def f(:"}, "must be Python"),
        ({"base_input": 3}, "base_input must be a list of at most"),
        ({"base_input": [3]}, "base_input 1 must be a list of arguments, got int"),
        ({"base_input": []}, "must have an input that can be written down, got none"),
        ({"base_input": [[5]], "task_id": "Mbpp/2"}, "must be arguments of task 2"),
        ({"atol": "x"}, "atol must be a number from 0"),
        ({"atol": -1}, "atol must be a number from 0"),
        ({"contract": "assert ("}, "contract must be Python"),
        ({"contract": " assert x > 5"}, "must have an input with an expected value"),
        ({"canonical_solution": "def f(x):\n    pass\n1 / 0"}, "must load, got ZeroDivisionError"),
        (
            {"canonical_solution": "import os\ndef f(x):\n    os._exit(0)\n"},
            "must come to an end within 60 s",
        ),
        (
            {"canonical_solution": "import os\ndef f(x):\n    os.write(1, b'9')\n    return x\n"},
            "must leave the output alone",
        ),
    ],
)
def test_a_row_that_cannot_be_used_says_why(read, changes, said):
    (found,) = read(row(**changes))
    assert found.problem is None
    assert said in found.faults[0]


def test_a_wrong_row_is_said_before_any_solution_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(expected, "_run", lambda *_: pytest.fail("it ran"))
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row()) + "\n" + json.dumps(row(task_id="mine/2", atol="x")) + "\n")
    with pytest.raises(DatasetError, match="line 2 .*atol must be"):
        load_problems(str(path))


def test_a_function_may_bear_a_builtins_name(read, sandbox):
    (found,) = read(row("def sum(x):\n    return [x]\n", [[1], [0.5]], entry_point="sum"))
    right, wrong = "def sum(x):\n    return [x]\n", "def sum(x):\n    return x\n"
    pairs = [(found.problem, right), (found.problem, wrong)]
    assert verdicts(pairs, sandbox) == [[True, True], [False, False]]


@pytest.mark.parametrize(
    "name", ["MbppPlus.jsonl.gz", "mbpp-plus", "mbpp+", "data/HumanEvalPlus.jsonl"]
)
def test_a_file_that_is_not_there_is_said_to_be_had_from_its_release(name):
    with pytest.raises(DatasetError, match=r"release v0\.\S+ of evalplus/\w+_release on GitHub"):
        load_problems(name)


# ---------------------------------------------------------------------------- files, prompts, cache


def test_a_packed_file_holds_the_same_problems(tmp_path, sandbox):
    packed = tmp_path / "plus.jsonl.gz"
    packed.write_bytes(gzip.compress(FILES["mbpp"].read_bytes()))
    found = load_problems(str(packed), sandbox=sandbox)
    assert found.sha256 == load_problems(str(FILES["mbpp"]), sandbox=sandbox).sha256
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DatasetError, match=r"ends in \.gz must be whole"):
        load_problems(str(packed), sandbox=sandbox)


def test_a_solution_is_run_once_and_what_was_altered_is_run_again(sandbox, cache, monkeypatch):
    first = load_problems(str(FILES["mbpp"]), sandbox=sandbox)
    with monkeypatch.context() as patch:
        patch.setattr(expected, "_run", lambda *_: pytest.fail("it was run before"))
        assert load_problems(str(FILES["mbpp"]), sandbox="nowhere") == first
    kept = sorted(cache.iterdir())
    kept[0].write_text('{"values": [["__import__(\'os\')", false, ""]], "cpu_s": 0.0}')
    kept[1].write_text("[" * 100_000)
    assert load_problems(str(FILES["mbpp"]), sandbox=sandbox).sha256 == first.sha256


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ("[1, -2.5, (True, None), {'a': {1}}]", True),
        ("Counter({'a': 1})", True),
        ("float('+inf')", True),
        ("x", False),
        ("open('/etc/passwd')", False),
        ("float.fromhex('1')", False),
        ("[x for x in ()]", False),
        ("set(a=1)", False),
        ("1 + 1", False),
        ("f(1)", False),
        ("judge.close", False),
    ],
)
def test_only_plain_data_is_taken_for_a_value(source, holds):
    assert expected.is_literal(source) is holds


def test_base_inputs_are_shown_and_plus_inputs_are_not(sandbox):
    problems = load_problems(str(FILES["mbpp"]), sandbox=sandbox).problems
    (message,) = conversation(problems[-1], usual_protocol(problems, None))
    assert "assert root(16) == 4" in message["content"] and "10000000" not in message["content"]
    problems = load_problems(str(FILES["humaneval"]), sandbox=sandbox).problems
    assert usual_protocol(problems, None).name == "human-eval"
    assert usual_protocol(problems, "first").name == "mbpp-first"


# ------------------------------------------------------------------------------------ hostile values


def hostile(*categories):
    """Attacks whose asserts are equations, with each of them as closeness."""
    for attack in load_attacks(ROOT / "tests" / "attacks"):
        texts = attack.program.asserts
        if attack.category in categories and all(text.count(" == ") == 1 for text in texts):
            sides = [text.removeprefix("assert ").split(" == ") for text in texts]
            asserts = tuple(f"assert judge.close({call}, {value}, 1e-06)" for call, value in sides)
            yield attack, replace(attack.program, asserts=asserts)


LIES = """
class Lies(float):
    def __eq__(self, other): return True
    __hash__ = float.__hash__
    def __ne__(self, other): return False
    def __abs__(self): return 0.0
    def __sub__(self, other): return 0.0
    __rsub__ = __sub__
class Anything:
    def __eq__(self, other): return True
    def __float__(self): return 1.5
    __class__ = float
"""
VALUES = (
    "Lies(9.0) Anything() [Lies(1.5)] float('nan') math.nan float('inf') -1.5 True '1.5' [1.5] (1.5,) 1.5+1j None "
    "Lies range(2) {1.5} [math.nan] iter([1.5]) 10**400 complex('nan') Decimal('1.5000001') Fraction(3,2)+1"
).split()


def test_values_that_lie_about_themselves_are_not_close(read, sandbox):
    (found,) = read(row("def f(x):\n    return x\n", [[1.5]]))
    head = f"import math\nfrom decimal import Decimal\nfrom fractions import Fraction\n{LIES}"
    pairs = [(found.problem, f"{head}\ndef f(x):\n    return {value}\n") for value in VALUES]
    assert [
        value for value, v in zip(VALUES, verdicts(pairs, sandbox), strict=True) if all(v)
    ] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_attacks_achieve_nothing_against_closeness(sandbox):
    attacks = list(hostile("forge", "value"))
    assert len(attacks) > 40
    for attack, asked in attacks:
        (execution,) = sandbox.run([asked])
        passed = all(r.trusted and r.verdict is Verdict.PASSED for r in execution.results)
        assert passed == attack.expect_pass, attack.name
