import json

import pytest

from evaluator.problems.mbpp import load_problems
from evaluator.sampling.completions import CompletionsError, gold_answers, read_completions

PROBLEMS = load_problems("embedded/test")
ID = PROBLEMS.problems[0].task_id


def write(tmp_path, *rows):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def test_rows_come_in_order_of_task_id_and_sample(tmp_path):
    path = write(
        tmp_path,
        {"task_id": ID + 1, "completion": "b", "sample_index": 1},
        {"task_id": ID + 1, "completion": "a", "sample_index": 0},
        "",
        {"task_id": ID, "completion": "c", "sample_index": 0, "other": [1]},
        {"task_id": ID, "completion": "d", "sample_index": 1},
    )
    assert [answer.completion for answer in read_completions(path, PROBLEMS)] == list("cdab")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one row"),
        (["{"], "one JSON object"),
        (["[1]"], "one JSON object, got list"),
        (["[" * 100_000], "one JSON object"),
        (['{"task_id": 25, "completion": "x"'], "line 1"),
        ([{"completion": "x"}], "integer task_id"),
        ([{"task_id": ID}], "text completion, got 25 and NoneType"),
        ([{"task_id": True, "completion": "x"}], "integer task_id"),
        ([{"task_id": "<b>", "completion": "x"}], "integer task_id"),
        ([{"task_id": ID, "completion": ["x"]}], "got 25 and list"),
        ([{"task_id": 9999, "completion": "x"}], r"embedded/test \(16 problems\), got 9999 at"),
        ([{"task_id": ID, "completion": "x"}] * 2, r"must come once, .* lines 1 and 2"),
        ([{"task_id": ID, "completion": "x", "sample_index": -1}], "sample_index"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, rows, message):
    with pytest.raises(CompletionsError, match=message) as caught:
        read_completions(write(tmp_path, *rows), PROBLEMS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_bytes_that_are_not_utf8_are_named(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"task_id": 25, "completion": "\xff\xfe"}\n')
    with pytest.raises(CompletionsError, match="line 1"):
        read_completions(path, PROBLEMS)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CompletionsError, match="must be readable"):
        read_completions(tmp_path / "none.jsonl", PROBLEMS)


def test_nul_bytes_and_two_megabytes_are_read(tmp_path):
    path = write(tmp_path, {"task_id": ID, "completion": "\x00" + "x" * 2_000_000})
    (answer,) = read_completions(path, PROBLEMS)
    assert len(answer.completion) == 2_000_001


def test_gold_answers_are_fenced_references():
    answer = gold_answers(PROBLEMS.problems)[0]
    assert answer.completion == f"```python\n{PROBLEMS.problems[0].reference}\n```"


def test_unequal_numbers_of_samples_and_any_first_index_are_read_as_they_stand(tmp_path):
    path = write(
        tmp_path,
        {"task_id": ID, "completion": "x", "sample_index": 1},
        {"task_id": ID, "completion": "y", "sample_index": 7},
        {"task_id": ID + 1, "completion": "z", "sample_index": 2},
    )
    found = [(a.problem.task_id, a.sample_index) for a in read_completions(path, PROBLEMS)]
    assert found == [(ID, 1), (ID, 7), (ID + 1, 2)]
