"""A person's own problems in every form of file, and what is said of files that are wrong."""

import csv
import json

import datasets
import duckdb
import pytest

from evaluator.grading.feedback import feedback
from evaluator.grading.grade import grade
from evaluator.problems.mbpp import load_problems
from evaluator.problems.problem import DatasetError
from evaluator.problems.problem_file import examine
from evaluator.problems.prompt import conversation, protocol_for

ROWS = [
    {
        "task_id": f"mine/{number}",
        "text": f"Return {number} more than x.",
        "tests": [f"assert more(1) == {number + 1}"],
        "hidden_tests": [f"assert more(10) == {number + 10}"],
        "imports": ["import math"],
        "tags": ["even"] if number % 2 == 0 else ["odd", "small numbers"],
    }
    for number in (2, 10, 1)
]


def as_jsonl(path):
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def as_json(path):
    path.write_text(json.dumps(ROWS, indent=1))


def as_csv(path):
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow(list(ROWS[0]))
        for row in ROWS:
            lines, tags = ("\n".join(row[name]) for name in ("tests", "imports")), row["tags"]
            tests, imports = lines
            hidden = json.dumps(row["hidden_tests"])
            table.writerow([row["task_id"], row["text"], tests, hidden, imports, ", ".join(tags)])


def as_parquet(path):
    source = path.with_suffix(".jsonl")
    as_jsonl(source)
    duckdb.execute(f"COPY (FROM read_json('{source}')) TO '{path}' (FORMAT parquet)")


def as_folder(path):
    datasets.Dataset.from_list(ROWS).save_to_disk(str(path))


FORMS = {
    "own.jsonl": as_jsonl,
    "own.json": as_json,
    "own.csv": as_csv,
    "own.parquet": as_parquet,
    "folder": as_folder,
}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_of_file_holds_the_same_problems(tmp_path, name):
    as_jsonl(tmp_path / "plain.jsonl")
    plain = load_problems(str(tmp_path / "plain.jsonl"))
    FORMS[name](tmp_path / name)
    found = load_problems(str(tmp_path / name))
    assert found.problems == plain.problems
    assert found.sha256 == plain.sha256
    assert found.name == f"file/{name}"


@pytest.fixture
def own(tmp_path):
    as_jsonl(tmp_path / "own.jsonl")
    return str(tmp_path / "own.jsonl")


def test_text_ids_are_ordered_by_their_numbers(own):
    assert [p.task_id for p in load_problems(own).problems] == ["mine/1", "mine/2", "mine/10"]


def test_problems_are_chosen_by_id_and_by_tag(own):
    chosen = load_problems(f"{own}[mine/10,tag=odd]")
    assert [p.task_id for p in chosen.problems] == ["mine/1", "mine/10"]
    assert chosen.name == "file/own.jsonl[tag=odd,mine/10]"
    with pytest.raises(DatasetError, match=r"must be of file/own.jsonl.*got blue"):
        load_problems(f"{own}[tag=blue]")


def test_a_hidden_assert_grades_and_is_shown_nowhere(own, sandbox):
    problem = load_problems(own).problems[0]
    (message,) = conversation(problem, protocol_for("all"))
    assert "more(1) == 2" in message["content"] and "more(10)" not in message["content"]
    (found,) = grade([(problem, "```python\ndef more(x):\n    return 2\n```")], sandbox)
    assert (found.n_passed, found.n_asserts) == (1, 2)
    said = feedback(found)
    assert said == "1 of 2 tests fail.\n- a hidden test gave a wrong result."
    (found,) = grade([(problem, "```python\ndef more(x):\n    return {1: 2}[x]\n```")], sandbox)
    assert "10" not in feedback(found) and "KeyError" in feedback(found)


def test_no_reference_is_needed_and_the_tested_function_is_found(tmp_path):
    path = tmp_path / "own.jsonl"
    row = {
        "id": 7,
        "prompt": "Turn the tree.",
        "setup": "class Tree:\n    pass",
        "tests": ["assert sorted(turn(Tree(), math.inf)) == [1]"],
        "imports": ["import math"],
    }
    path.write_text(json.dumps(row))
    (problem,) = load_problems(str(path)).problems
    assert (problem.task_id, problem.reference, problem.callables) == (7, "", ("turn",))


GOOD = {"task_id": "a", "text": "t", "tests": ["assert f(1) == 2"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task_id": "a\x07b"}, r"task_id must be .* got 'a\\x07b'"),
        ({"task_id": "<script>"}, "task_id must be .* got '<script>'"),
        ({"task_id": "=1+2"}, "task_id must be .* got '=1"),
        ({"task_id": "@SUM(A1)"}, "task_id must be"),
        ({"task_id": "../../etc/passwd"}, r"task_id must be .* got '\.\./"),
        ({"task_id": "a//b"}, "task_id must be"),
        ({"task_id": "/etc"}, "task_id must be"),
        ({"task_id": "a\u202eb"}, "task_id must be"),
        ({"task_id": "x" * 101}, "1 to 100 letters"),
        ({"task_id": "a,b"}, "task_id must be"),
        ({"task_id": 1.5}, "task_id must be"),
        ({"task_id": float("inf")}, "task_id must be"),
        ({"text": "half \ud800"}, "text must be Unicode text"),
        ({"tests": ["assert f('\ud800') == 2"]}, "tests must be Unicode text"),
        ({"task_id": -1}, "task_id must be an integer from 0"),
        ({"task_id": True}, "task_id must be an integer or a text, got True"),
        ({"task_id": None}, "task_id must be"),
        ({"text": ""}, "text must say what is asked"),
        ({"text": ["t"]}, "text must be text, got list"),
        ({"text": "a\0b"}, "text must hold no NUL"),
        ({"text": "x" * 100_001}, "text must hold at most 100000 characters, got 100001"),
        ({"tests": []}, "at least one test or case"),
        ({"tests": ["assert f(1) == 2; assert f(2) == 3"]}, "tests 1 must be one assert statement"),
        ({"tests": ["f(1) == 2"]}, "tests 1 must be one assert statement"),
        ({"tests": ["assert f(1) =="]}, "tests 1 must be one assert statement"),
        ({"tests": ["assert f(1) == f(2)"]}, "tests 1 must be one that is judged outside"),
        ({"hidden_tests": ["assert f(1)", "pass"]}, "hidden_tests 2 must be one assert statement"),
        ({"tests": ["assert 1 == 1"]}, "must call a function of the answer"),
        ({"tests": "[1, 2"}, "tests must be a list"),
        ({"tests": [1]}, "tests must be a list of texts, got int"),
        ({"tests": {"a": 1}}, "tests must be a list, got dict"),
        ({"tests": ["assert f(1) == 2"] * 10_001}, "tests must hold at most 10000"),
        ({"reference": "def f("}, "reference must be Python"),
        ({"reference": "def g(): pass"}, "must call a function that the reference defines"),
        ({"setup": "class"}, "setup must be Python"),
        ({"imports": ["import"]}, "imports must be Python"),
        ({"function": "f()"}, "function must be the name of a function"),
        ({"tags": ["<b>"]}, "tags must be words"),
        ({"hiden_tests": ["assert f(2)"]}, "got 'hiden_tests'; did you mean 'hidden_tests'"),
        ({"cases": [{"input": "", "output": ""}]}, "must have tests or cases, got both"),
        ({"time_limit_s": 1}, "time_limit_s must stand with cases"),
        ({"tests": None, "cases": [{"input": "1"}]}, "each of cases must be an object with"),
        ({"tests": None, "cases": [["1", "2"]]}, "each of cases must be an object with"),
        (
            {"tests": None, "cases": [{"input": "1", "output": "2"}], "time_limit_s": "fast"},
            "time_limit_s must be a number above 0",
        ),
        (
            {"tests": None, "cases": [{"input": "1", "output": "2"}], "tolerance": -1},
            "tolerance must be a number from 0",
        ),
        (
            {"tests": None, "cases": [{"input": "1", "output": "2"}], "checker": "x = 1"},
            "checker must define a function check",
        ),
    ],
)
def test_a_wrong_row_is_one_line_that_names_it(tmp_path, changes, said):
    path = tmp_path / "own.jsonl"
    rows = [{**GOOD, "task_id": "first"}, {**GOOD, **changes}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DatasetError, match=rf"got line 2 of .*own.jsonl.*: .*{said}") as error:
        load_problems(str(path))
    assert "\n" not in str(error.value) and str(error.value).isprintable()
    assert len(str(error.value)) < 900


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("own.jsonl", b"", "at least one problem, got none"),
        ("own.csv", b"task_id,text,tests\n", "at least one problem, got none"),
        ("own.json", b"[]", "at least one problem, got none"),
        ("own.json", b'{"a": 1}', "array of objects, got dict"),
        ("own.json", b"[1,", "array of objects, got Expecting value"),
        ("own.json", b"[1]", "row 1 .*one JSON object, got int"),
        ("own.jsonl", b"[" * 100_000, "line 1"),
        ("own.csv", b"task_id,text,tests\na,b\n", "row 1 .*must have 3 cells .* got 2"),
        (
            "own.csv",
            b'task_id,text,tests\na,b,"assert f(1) == 2\n',
            "CSV file must be whole.*row 1",
        ),
        ("own.csv", b"task_id,text,text\na,b,c\n", "each column once, got 'text' twice"),
        ("own.csv", b"question;answer\na;b\n", "parted by commas, got ';'"),
        (
            "own.csv",
            "task_id,text\na,\u00e9".encode("latin-1"),
            "UTF-8, got the byte 0xe9 in line 2",
        ),
        ("own.csv", "task_id,text".encode("utf-16"), "must be UTF-8, got UTF-16"),
        ("own.parquet", b"PAR1 no", "Parquet file must be whole"),
        ("own.txt", b"x", "dataset must be"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=said) as error:
        load_problems(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["own.jsonl", "own.csv", "own.parquet"])
def test_a_file_that_is_not_there_is_one_line(tmp_path, name):
    with pytest.raises(DatasetError, match="must be readable.*No such file"):
        load_problems(str(tmp_path / name))


def test_a_folder_with_several_splits_says_how_to_name_one(tmp_path):
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "d")
    with pytest.raises(DatasetError, match="named with one of them.*d/train"):
        load_problems(str(tmp_path / "d"))
    assert len(load_problems(str(tmp_path / "d" / "train")).problems) == 3


def test_every_fault_of_every_row_is_found(tmp_path):
    path = tmp_path / "own.jsonl"
    wrong = {"task_id": "<b>", "text": "", "tests": ["x = 1"]}
    path.write_text("".join(json.dumps(row) + "\n" for row in (GOOD, wrong, GOOD)))
    faults = [row.faults for row in examine(path)]
    assert [len(each) for each in faults] == [0, 3, 1]
    assert "unique, got 'a' in line 1" in faults[2][0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "Add.", "tests": ["assert f(1) == 1"]}', "task_id must be given, got none; add the column"),
        ('{"id": null, "text": "Add.", "tests": ["assert f(1) == 1"]}', "task_id must be given, got none"),
        ('{"id": "a", "text": "Add.", "tests": ["assert f(1) == 1"], "function": "g"}', r"asked for \(g\)"),
        ('[{"id": "a"}]', "got list; an array belongs in a file that ends in .json"),
    ],
)  # fmt: skip
def test_a_row_that_a_newcomer_writes_is_told_what_it_lacks(tmp_path, line, said):
    (tmp_path / "own.jsonl").write_text(line + "\n")
    with pytest.raises(DatasetError, match=said):
        load_problems(str(tmp_path / "own.jsonl"))


ROW = {
    "task_id": "mine/1",
    "text": "Add.",
    "code": "def add(a, b): return a + b",
    "tests": ["assert add(1, 2) == 3"],
}
CASE = {"task_id": "mine/1", "text": "Add.", "cases": [{"input": "1 2", "output": "3"}]}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("question", "text"), ("Instruction", "text"), ("asserts", "tests"), ("unit_tests", "tests"), ("Text", "text"),
        ("solution", "reference"), ("canonical_solution", "reference"), ("hidden", "hidden_tests"),
        ("entry_point", "function"), ("inputs_outputs", "cases"), ("timeout", "time_limit_s"),
        ("memory_mb", "memory_limit_mb"), ("float_tolerance", "tolerance"), ("setup code", "setup"),
    ],
)  # fmt: skip
def test_a_column_under_a_name_that_nothing_reads_is_named(tmp_path, name, meant):
    row = dict(CASE if meant in ("cases", "time_limit_s", "memory_limit_mb", "tolerance") else ROW)
    value = row.pop({"reference": "code"}.get(meant, meant), "x")
    (tmp_path / "own.jsonl").write_text(json.dumps(row | {name: value}))
    with pytest.raises(DatasetError, match=rf"got '{name}'; did you mean '{meant}'\?"):
        load_problems(str(tmp_path / "own.jsonl"))


def test_other_columns_may_hold_what_they_like(tmp_path):
    extra = {"question": "?", "solution": 3, "difficulty": "easy", "asserts": [], "test_cases": {}}
    (tmp_path / "own.jsonl").write_text(json.dumps(ROW | extra))
    assert len(load_problems(str(tmp_path / "own.jsonl")).problems) == 1


def test_a_list_may_be_written_as_python_writes_it(tmp_path):
    (tmp_path / "own.csv").write_text(
        'task_id,text,code,tests\n1,Add.,"def add(a, b): return a + b",'
        '"[\'assert add(1, 2) == 3\', ""assert add(0, 0) == 0""]"\n'
    )
    (problem,) = load_problems(str(tmp_path / "own.csv")).problems
    assert problem.asserts == ("assert add(1, 2) == 3", "assert add(0, 0) == 0")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("own.csv", b"1,Add.,assert add(1) == 1\n", "first line must be a heading .*add one"),
        ("own.csv", b"task_id;text;tests\n1;Add.;assert add(1) == 1\n", "parted by commas, got ';'"),
        ("own.csv", b"task_id\ttext\ttests\n", r"parted by commas, got '\\t'"),
        ("own.json", b'{"problems": [{}]}', "rows in 'problems'.*put \\["),
        ("own.json", b'{"task_id": 1}', "got dict in .*put \\["),
        ("own.jsonl", b"\x1f\x8b\x08\x00", "got a packed one.*unpack it"),
        ("own.csv", b"PK\x03\x04\xff", "got a packed one.*unpack it"),
        ("own.csv", b"task_id,text,tests\n1,Add.,[assert add(1) == 1]\n", "list in JSON, or lines of text"),
        ("own.jsonl", json.dumps(CASE | {"checker": "def check(): return True"}).encode(), "check.stdin, output, exp"),
        ("own.jsonl", json.dumps(CASE | {"checker": "def check(a, b, c, d): pass"}).encode(), "check.stdin, output"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_whole_file_has_the_remedy_that_helps(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=said) as raised:
        load_problems(str(tmp_path / name))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("checker", ["def check(a, b, c): pass", "def check(*a): pass", "def check(a, b, c, d=1): pass",
                                     "check = lambda a, b, c: True"])  # fmt: skip
def test_a_checker_that_can_take_three_arguments_is_taken(tmp_path, checker):
    (tmp_path / "own.jsonl").write_text(json.dumps(CASE | {"checker": checker}))
    assert load_problems(str(tmp_path / "own.jsonl")).problems[0].comparison.checker == checker
