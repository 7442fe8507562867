"""The rules for a row of evalplus: what is expected, what is left out, what is said of a wrong one."""

import gzip
import json

import pytest

from evaluator.grading.grade import grade
from evaluator.problems.evalplus import expected, rows
from evaluator.problems.evalplus.inputs import arguments_of
from evaluator.problems.mbpp import load_problems
from evaluator.problems.problem import DatasetError
from evaluator.problems.prompt import conversation, usual_protocol
from sandbox.program import Verdict
from tests.evaluator.problems.evalplus.conftest import FILES, row, verdicts


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


def test_of_very_long_asserts_the_longest_are_left_out_and_the_rest_is_judged(
    read, sandbox, monkeypatch
):
    monkeypatch.setattr(rows, "_MAX_CHARS", 8_500)  # two are too many; the true limit takes seconds
    lengths = [5, 490, 300, 500, 10]
    code = "def f(n):\n    return [[i] for i in range(n)]\n"
    (found,) = read(row(code, [[n] for n in lengths], plus_input=[[350], [400]]))
    assert [text.partition(": ")[0] for text in found.left_out] == ["base_input 2", "base_input 4"]
    assert found.problem.n_hidden == 2 and len(found.problem.asserts) == 5
    wrong = code.replace("range(n)", "range(min(n, 349))")
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
