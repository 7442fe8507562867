"""`sdpo-bench problems check`: one table of all that is wrong with a file."""

import json

import pytest
from click.testing import CliRunner

from evaluator.cli.problem_check import check_file
from evaluator.cli.problems import problems as command
from sandbox.client import open_sandbox

CASES = [{"input": "1", "output": "2"}, {"input": "5", "output": "6"}]
REFUSES = "def check(stdin, output, expected):\n    return output == stdin"
ROWS = {
    "good": {
        "tests": ["assert f(1) == 2", "assert f(5) == 6"],
        "reference": "def f(x):\n    return x + 1",
    },
    "failing": {
        "tests": ["assert f(1) == 3", "assert f(5) == 6"],
        "reference": "def f(x):\n    return x + 1",
    },
    "constant": {"tests": ["assert f(1) == 7", "assert f(2) == 7"]},
    "weak": {"tests": ["assert f(1) != 7", "assert f(2) == 3", "assert f(3) == 4"]},
    "beside": {
        "setup": "class P:\n    pass",
        "tests": ["assert f(1) == P()", "assert f(2) == 3", "assert f(3) == 4"],
    },
    "printed": {"cases": [{"input": "1", "output": "2"}, {"input": "3", "output": "2 \n"}]},
    "checked": {"cases": CASES, "checker": REFUSES},
    "whole": {"cases": CASES, "reference": "print(int(input()) + 1)"},
}
FOUND = {
    "failing": "its reference fails: 1 of 2 tests fail. f(1) gave 2, expected 3.",
    "constant": "a constant passes every test: returning 7",
    "weak": "a constant passes the assert 'assert f(1) != 7': it holds for True and for False alike",
    "beside": "the assert 'assert f(1) == P()' cannot be judged outside the answer: write out what it expects "
    "without names of setup",
    "printed": "a constant passes every test: printing '2'",
    "checked": "its checker refuses the expected output of case 1: one that the checker accepts",
}


@pytest.fixture(scope="module")
def process():
    with open_sandbox("process", n_workers=1) as sandbox:
        yield sandbox


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "own.jsonl"
    rows = [{"task_id": name, "text": "t", **row} for name, row in ROWS.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_check_finds_what_would_measure_nothing(file, process):
    found = check_file(file, process)
    first = {}
    for finding in found.findings:
        first.setdefault(finding.task_id, finding.what)
    assert first == FOUND
    assert (found.n_rows, found.n_wrong, found.n_references) == (8, 6, 3)


def test_the_command_prints_one_table_and_ends_with_one(file, process, monkeypatch):
    monkeypatch.setattr("evaluator.cli.problems.open_sandbox", lambda backend: _kept(process))
    file.write_text(file.read_text() + '{"task_id": "<b>"}\nno json\n')
    out = file.with_suffix(".out")
    result = CliRunner().invoke(command, ["check", str(file), "--json", str(out)])
    assert result.exit_code == 1
    assert "line 9" in result.output and "one JSON object" in result.output
    assert "10 rows, 8 with something wrong" in result.output
    assert json.loads(out.read_text())["findings"][0]["task_id"] == "failing"
    file.write_text(json.dumps({"task_id": "good", "text": "t", **ROWS["good"]}))
    result = CliRunner().invoke(command, ["check", str(file)])
    assert (result.exit_code, result.output.strip()) == (
        0,
        "1 rows, 0 with something wrong; 1 references, 0 hidden tests",
    )


class _kept:
    def __init__(self, sandbox):
        self.sandbox = sandbox

    def __enter__(self):
        return self.sandbox

    def __exit__(self, *exc):
        pass
