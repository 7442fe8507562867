"""LiveCodeBench's own form, with rows of our own; the private tests compressed as its files have them."""

import base64
import json
import pickle
import zlib

import pytest

from evaluator.grading.grade import grade
from evaluator.problems.mbpp import load_problems
from evaluator.problems.problem import DatasetError
from evaluator.problems.prompt import conversation, protocol_for
from sandbox.client import open_sandbox

PUBLIC = [{"input": "2\n3 4\n", "output": "7\n", "testtype": "stdin"}]
PRIVATE = [
    {"input": "3\n1 1 1\n", "output": "3.0\n", "testtype": "stdin"},
    {"input": "1\n-5\n", "output": "  -5", "testtype": "stdin"},
]


def packed(tests):
    """As the files hold private tests: JSON, pickled as one text, compressed, in base 64."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def row(**changes):
    return {
        "question_title": "Sum",
        "question_content": "Print the sum of n numbers.",
        "platform": "atcoder",
        "question_id": "own_1_a",
        "contest_id": "own_1",
        "contest_date": "2026-01-01T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(PUBLIC),
        "private_test_cases": packed(PRIVATE),
        "metadata": "{}",
        **changes,
    }


FUNCTIONAL = row(
    question_id="3001",
    starter_code="class Solution:\n    def pair(self, a: List[int], k: int) -> List[int]:\n        ",
    public_test_cases=json.dumps(
        [{"input": "[1, 2, 3]\n3", "output": "[0, 1]", "testtype": "functional"}]
    ),
    private_test_cases=packed(
        [{"input": "[5, 5]\n10", "output": "[0, 1]", "testtype": "functional"}]
    ),
    metadata=json.dumps({"func_name": "pair"}),
)
PAIR = """class Solution:
    def pair(self, a: List[int], k: int) -> List[int]:
        seen = defaultdict(int)
        for i, x in enumerate(a):
            if k - x in seen:
                return (seen[k - x], i)
            seen[x] = i
"""


@pytest.fixture
def load(tmp_path):
    def write(*rows):
        path = tmp_path / "lcb.jsonl"
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))
        return load_problems(str(path)).problems

    return write


def test_private_tests_are_unpacked_and_hidden(load):
    (problem,) = load(row())
    assert [case.expected for case in problem.cases] == ["7\n", "3.0\n", "  -5"]
    assert (problem.n_visible, problem.n_hidden, problem.tags) == (1, 2, ("easy", "atcoder"))
    (message,) = conversation(problem, protocol_for("all", whole_programs=True))
    assert "Input:\n2\n3 4\nOutput:\n7" in message["content"]
    assert "1 1 1" not in message["content"]


def test_both_kinds_of_tests_are_graded_by_its_rules(load):
    functional, stdin = load(row(), FUNCTIONAL)
    good = "n = int(input())\nprint(sum(map(int, input().split())))"
    answers = [
        (stdin, good),
        (stdin, good.replace("sum(", "1 + sum(")),
        (functional, PAIR),
        (functional, PAIR.replace("i)", "-i)")),
    ]
    with open_sandbox("process", n_workers=1) as sandbox:
        grades = grade([(p, f"```python\n{code}\n```") for p, code in answers], sandbox)
    assert [found.outcome for found in grades] == [
        "passed",
        "wrong_answer",
        "passed",
        "wrong_answer",
    ]


def test_tests_as_plain_json_are_read_too(load):
    (problem,) = load(row(private_test_cases=json.dumps(PRIVATE)))
    assert len(problem.cases) == 3
    (problem,) = load(row(private_test_cases=PRIVATE, public_test_cases=PUBLIC))
    assert len(problem.cases) == 3


class Runs:
    """A pickle that would run a command."""

    def __reduce__(self):
        return exec, ("raise SystemExit('ran')",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"private_test_cases": "no base 64!"}, "private_test_cases must be JSON, or JSON pickled"),
        (
            {"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(Runs()))).decode()},
            "private_test_cases must be JSON.*a pickle with",
        ),
        (
            {
                "private_test_cases": base64.b64encode(
                    zlib.compress(b"[" + b" " * (65 << 20))
                ).decode()
            },
            "at most 67108864 bytes",
        ),
        ({"public_test_cases": "{}"}, "must be a list of tests, got dict"),
        ({"public_test_cases": '[{"input": 1}]'}, "must have input, output and testtype"),
        ({"public_test_cases": "[]", "private_test_cases": ""}, "of one kind.*got none"),
        ({"question_id": "<b>"}, "question_id must be"),
        ({"question_content": 5}, "question_content must be text"),
        ({**FUNCTIONAL, "metadata": "{}"}, "metadata must name func_name"),
        (
            {
                **FUNCTIONAL,
                "private_test_cases": '[{"input": "x", "output": "1", "testtype": "functional"}]',
            },
            "arguments and result as JSON",
        ),
        (
            {
                **FUNCTIONAL,
                "private_test_cases": '[{"input": "1", "output": "Infinity", "testtype": "functional"}]',
            },
            "finite values",
        ),
    ],
)
def test_a_wrong_row_is_one_line_and_no_pickle_is_run(load, changes, said):
    with pytest.raises(DatasetError, match=rf"line 1 .*{said}") as error:
        load(row(**changes))
    assert "\n" not in str(error.value)
