"""MBPP+ and HumanEval+ rows of our own beside plain Python: who passes, with hostile values, too."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from evaluator.cli.eval import eval_command
from evaluator.grading.grade import grade
from evaluator.problems.evalplus.inputs import arguments_of
from evaluator.problems.mbpp import load_problems
from evaluator.sampling.completions import gold_answers
from sandbox.attack import load as load_attacks
from sandbox.program import Verdict
from tests.evaluator.problems.evalplus.conftest import FILES, ROOT, ROWS, row, verdicts

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
    asked = [(own, program(own, body)) for own in ROWS[name] for body in WRONG[own["entry_point"]]]
    got = verdicts([(by_id[own["task_id"]], code) for own, code in asked], sandbox)
    for (own, code), found in zip(asked, got, strict=True):
        assert found == plain(own, name, code), code
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


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_attacks_achieve_nothing_against_closeness(sandbox):
    attacks = list(hostile("forge", "value"))
    assert len(attacks) > 40
    for attack, asked in attacks:
        (execution,) = sandbox.run([asked])
        passed = all(r.trusted and r.verdict is Verdict.PASSED for r in execution.results)
        assert passed == attack.expect_pass, attack.name
