import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from evaluator.problems import mbpp
from evaluator.problems.mbpp import DatasetError, find_callables, load_problems, rows_sha256
from evaluator.problems.problem import normalised_row

FULL = {
    "text": "Add.\r\nTwo.",
    "code": "def helper(x):\r\n    return x\r\ndef add(a, b):\r\n    return a + b",
    "task_id": 11,
    "test_setup_code": "",
    "test_list": ["assert add(1, 2) == 3", "assert add(2, 2) == 4"],
    "challenge_test_list": ["assert add(9, 9) == 18"],
}
SANITIZED = {
    "source_file": "x.ipynb",
    "prompt": "Add.",
    "code": "def add(a, b):\n    return a + b",
    "task_id": 12,
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(add(1, 2), 3)"],
}


@pytest.fixture
def mbpp_dir(tmp_path, monkeypatch):
    """A folder in MBPP's form with a few rows of our own, whose content is what is expected."""
    rows = {"full": [{**FULL, "task_id": i} for i in (2, 12, 11, 600, 601, 974)]}
    rows["sanitized"] = [SANITIZED]
    (tmp_path / "mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows["full"]))
    (tmp_path / "sanitized-mbpp.json").write_text(json.dumps(rows["sanitized"]))
    sources = {}
    for config, source in mbpp._SOURCES.items():
        content = (tmp_path / source.file_name).read_bytes()
        sources[config] = replace(
            source,
            file_sha256=hashlib.sha256(content).hexdigest(),
            rows_sha256=rows_sha256(normalised_row(row) for row in rows[config]),
        )
    monkeypatch.setattr(mbpp, "_SOURCES", sources)
    monkeypatch.delenv("MBPP_DIR", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("split", "ids"),
    [
        ("prompt", [2]),
        ("test", [11, 12]),
        ("validation", [600]),
        ("train", [601, 974]),
        ("all", [2, 11, 12, 600, 601, 974]),
    ],
)
def test_splits_go_by_task_id_in_order(mbpp_dir, split, ids):
    problem_set = load_problems(f"full/{split}", mbpp_dir=mbpp_dir)
    assert [problem.task_id for problem in problem_set.problems] == ids
    assert problem_set.name == f"mbpp/full/{split}"


def test_line_ends_become_lf(mbpp_dir):
    (problem,) = load_problems("full/prompt", mbpp_dir=mbpp_dir).problems
    assert "\r" not in problem.text + problem.reference
    assert problem.text == "Add.\nTwo."


def test_sanitized_imports_and_prompt_field_are_read(mbpp_dir):
    (problem,) = load_problems("sanitized/test", mbpp_dir=mbpp_dir).problems
    assert problem.imports == ("import math",)
    assert problem.text == "Add."
    assert problem.callables == ("add",)


def test_the_environment_names_the_folder(mbpp_dir, monkeypatch):
    monkeypatch.setenv("MBPP_DIR", str(mbpp_dir))
    assert len(load_problems("full/test").problems) == 2


def test_limit_keeps_the_lowest_task_ids(mbpp_dir):
    (problem,) = load_problems("full/test", mbpp_dir=mbpp_dir, limit=1).problems
    assert problem.task_id == 11


def test_hub_and_folder_have_one_sha256(mbpp_dir, monkeypatch):
    import datasets

    rows = [json.loads(line) for line in (mbpp_dir / "mbpp.jsonl").open()]
    asked = []

    def load_dataset(name, config, revision):
        asked.append((name, config, revision))
        return {"test": rows[1:], "train": rows[:1]}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    from_hub = load_problems("full/test")
    assert from_hub.sha256 == load_problems("full/test", mbpp_dir=mbpp_dir).sha256
    assert from_hub.problems == load_problems("full/test", mbpp_dir=mbpp_dir).problems
    assert asked == [("google-research-datasets/mbpp", "full", mbpp.HUB_REVISION)]


def test_altered_hub_rows_are_refused(mbpp_dir, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: {"test": [FULL]})
    with pytest.raises(DatasetError, match=r"rows of mbpp/full must have sha256 .* --mbpp-dir"):
        load_problems("full/test")


def test_unreachable_hub_is_one_line(mbpp_dir, monkeypatch):
    import datasets

    def load_dataset(*args, **kwargs):
        raise ConnectionError("no route\nsecond line")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DatasetError) as caught:
        load_problems("full/test")
    assert "\n" not in str(caught.value)
    assert "MBPP_DIR" in str(caught.value)


def test_altered_file_is_refused(mbpp_dir):
    path = mbpp_dir / "mbpp.jsonl"
    path.write_bytes(path.read_bytes().replace(b"== 3", b"== 4", 1))
    with pytest.raises(DatasetError, match=r"must have sha256 .*, got '.*'; restore"):
        load_problems("full/test", mbpp_dir=mbpp_dir)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"must hold a readable sanitized-mbpp.json"):
        load_problems("sanitized/test", mbpp_dir=tmp_path)


@pytest.mark.parametrize("name", ["", "full", "full/none", "human/test", "embedded/validation"])
def test_unknown_names_are_refused(name):
    with pytest.raises(DatasetError, match="dataset must be"):
        load_problems(name)


@pytest.mark.parametrize("limit", [0, -1])
def test_zero_problems_are_refused(limit):
    with pytest.raises(DatasetError, match="limit must be at least 1"):
        load_problems("embedded/test", limit=limit)


def test_tested_function_is_what_the_asserts_call_not_the_first_def():
    code = "def gcd(a, b):\n    return a\ndef coprime(a, b):\n    return gcd(a, b) == 1"
    assert find_callables(code, ["assert coprime(1, 2) == True"]) == ("coprime",)


def test_function_named_like_a_builtin_is_found():
    assert find_callables("def sum(a, b): return a", ["assert sum(1, 2) == 1"]) == ("sum",)


def test_builtins_around_the_call_are_not_the_tested_function():
    assert find_callables("def f(a): return a", ["assert set(f([1])) == set([1])"]) == ("f",)


def test_classes_in_arguments_come_after_the_function():
    code = "class Pair:\n    pass\ndef chain(pairs): pass"
    assert find_callables(code, ["assert chain([Pair(1)]) == 1"]) == ("chain", "Pair")


def test_names_that_only_setup_code_calls_come_last():
    code = "class Node: pass\ndef height(node): pass"
    found = find_callables(code, ["assert height(root) == 1"], "root = Node(1)")
    assert found == ("height", "Node")


@pytest.mark.parametrize(
    "code",
    [
        "square = lambda x: x * x",
        "async def square(x): pass",
        "if True:\n    def square(x): pass",
        "square: object = abs",
    ],
)
def test_every_kind_of_top_level_definition_counts(code):
    assert find_callables(code, ["assert square(2) == 4"]) == ("square",)


def test_a_nested_def_is_no_definition():
    code = "def outer():\n    def square(x): pass"
    assert find_callables(code, ["assert square(2) == 4"]) == ()


def test_imports_that_only_the_asserts_need_come_from_the_reference(tmp_path):
    row = {
        **FULL,
        "code": "import sys\nimport re\ndef size(t):\n    return sys.getsizeof(t)",
        "test_list": ["assert size((1,)) == sys.getsizeof((1,))"],
        "challenge_test_list": [],
    }
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(row))
    (problem,) = load_problems(str(path)).problems
    assert problem.imports == ("import sys",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "at least one problem"),
        ("{", "one JSON object"),
        ("[1]", "one JSON object, got list"),
        (b'{"text": "\xff"}', "must be UTF-8, got the byte 0xff in line 1"),
        ('\n\n{"task_id": 1}', "got line 3.*text must say what is asked"),
        (json.dumps({**FULL, "code": "def ("}), "must be Python"),
        (json.dumps({**FULL, "code": "x = 1"}), "must call a function"),
        (json.dumps(FULL) + "\n" + json.dumps(FULL), "unique"),
        (
            json.dumps({**FULL, "test_list": ["assert helper(2) == helper(-2)"]}),
            "judged outside the solution.*with each other",
        ),
        (json.dumps({**FULL, "test_list": ["assert helper(2) == known"]}), "it names known"),
    ],
)
def test_bad_problem_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "own.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=message) as caught:
        load_problems(str(path))
    assert "\n" not in str(caught.value)


def test_a_checked_split_leaves_out_the_ill_formed_problems(mbpp_dir, monkeypatch):
    monkeypatch.setattr(mbpp, "ILL_FORMED", frozenset({12}))
    checked = load_problems("full/test-checked", mbpp_dir=mbpp_dir)
    assert [problem.task_id for problem in checked.problems] == [11]
    assert checked.name == "mbpp/full/test-checked"
    assert len(load_problems("full/test", mbpp_dir=mbpp_dir).problems) == 2, (
        "the default is unchanged"
    )


def test_the_ill_formed_problems_are_test_problems():
    assert len(mbpp.ILL_FORMED) == 27
    assert mbpp.ILL_FORMED <= set(mbpp.SPLITS["test"])


needs_mbpp = pytest.mark.skipif(not os.environ.get("MBPP_DIR"), reason="MBPP_DIR is not set")


@needs_mbpp
@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("full/all", 974),
        ("full/train", 374),
        ("full/test", 500),
        ("full/validation", 90),
        ("full/prompt", 10),
        ("sanitized/all", 427),
        ("sanitized/test", 257),
        ("sanitized/test-checked", 230),
        ("full/test-checked", 473),
        ("sanitized/train-checked", 120),
        ("sanitized/train", 120),
        ("sanitized/validation", 43),
    ],
)
def test_real_mbpp_has_its_known_sizes(name, n):
    problem_set = load_problems(name, mbpp_dir=Path(os.environ["MBPP_DIR"]))
    assert len(problem_set.problems) == n
    assert all(problem.callables for problem in problem_set.problems)


def test_the_one_slow_reference_is_known_by_its_task_and_function():
    from evaluator.problems.problem import normalised_row, problem_from_row

    def taken(task_id, name):
        row = {"task_id": task_id, "text": "t", "code": f"def {name}(n):\n    return n\n",
               "test_list": [f"assert {name}(1) == 1"]}  # fmt: skip
        return problem_from_row(normalised_row(row)).reference_cpu_s

    assert taken(123, "amicable_numbers_sum") > 1
    assert taken(123, "f") == taken(124, "amicable_numbers_sum") == 0
