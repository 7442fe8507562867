"""Rows in evalplus' form, and a sandbox that runs what they say."""

import json
from pathlib import Path

import pytest

from evaluator.grading.grade import grade
from evaluator.problems.problem_file import examine
from sandbox.client import open_sandbox
from sandbox.program import Verdict

ROOT = Path(__file__).parents[4]
FILES = {name: ROOT / "examples" / "own" / f"{name}_plus.jsonl" for name in ("mbpp", "humaneval")}
ROWS = {name: [json.loads(line) for line in path.open()] for name, path in FILES.items()}


@pytest.fixture(scope="session")
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
