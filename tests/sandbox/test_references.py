"""Every reference solution of MBPP, with its challenge asserts; MBPP_DIR names the folder of the two files."""

import ast
import json
import os
from pathlib import Path

import pytest

from sandbox.client import open_sandbox
from sandbox.program import Program, Verdict

FOLDER = Path(os.environ.get("MBPP_DIR", ""))
needs_data = pytest.mark.skipif(
    not (FOLDER / "mbpp.jsonl").is_file(), reason="MBPP_DIR names no folder with mbpp.jsonl"
)
SLOW_TASK = 123  # takes five seconds of processor time


def _defined(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _called(asserts):
    for source in asserts:
        for node in ast.walk(ast.parse(source.strip())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield node.func.id


def _program(row):
    code = row["code"].replace("\r\n", "\n")
    asserts = (*row["test_list"], *row.get("challenge_test_list", ()))
    return Program(
        code=code,
        asserts=tuple(asserts),
        callables=tuple(sorted(set(_defined(code)) & set(_called(asserts)))),
        imports=tuple(row.get("test_imports", ())),
        setup_code=row.get("test_setup_code", "").replace("\r\n", "\n"),
        timeout_s=30.0 if row["task_id"] == SLOW_TASK else 5.0,
    )


def _rows(name):
    text = (FOLDER / name).read_text()
    return (
        json.loads(text) if name.endswith(".json") else [json.loads(x) for x in text.splitlines()]
    )


def _failing(rows, pool):
    executions = pool.run([_program(row) for row in rows])
    return [
        (row["task_id"], [r for r in done.results if r.verdict != Verdict.PASSED or not r.trusted])
        for row, done in zip(rows, executions, strict=True)
        if any(r.verdict != Verdict.PASSED or not r.trusted for r in done.results)
    ]


@needs_data
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("hash_seed", [0, 1, 12345])
@pytest.mark.parametrize(("name", "n"), [("mbpp.jsonl", 974), ("sanitized-mbpp.json", 427)])
def test_every_reference_passes_on_docker_in_every_hash_seed(name, n, hash_seed):
    rows = _rows(name)
    assert len(rows) == n
    with open_sandbox("docker", own=True, hash_seed=hash_seed) as pool:
        assert _failing(rows, pool) == []


@needs_data
@pytest.mark.slow
def test_every_reference_passes_on_the_process_backend():
    with open_sandbox("process") as pool:
        assert _failing(_rows("mbpp.jsonl"), pool) == []
        assert _failing(_rows("sanitized-mbpp.json"), pool) == []
