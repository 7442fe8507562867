"""What every integration stands on: rows in, grades out; and the two that need no package of others."""

import json

import pytest

from evaluator.integrations import rows
from evaluator.integrations.rows import grade_rows, problem_of
from evaluator.integrations.trl import make_trl_reward, trl_reward
from evaluator.integrations.verl import compute_score, compute_scores
from sandbox.program import SandboxError
from tests.integrations.conftest import ADD, CHEAT, HALF, RIGHT


def test_a_row_needs_no_reference_solution():
    with_one, without = problem_of(ADD), problem_of({"test_list": ADD["test_list"]})
    assert with_one.callables == without.callables == ("add",)
    assert [g.passed for g in grade_rows([ADD, {"test_list": ADD["test_list"]}], [RIGHT] * 2)] == [
        True,
        True,
    ]


def test_imports_and_setup_of_a_row_are_used():
    row = {
        "test_list": ["assert math.isclose(f(one), 1.5)"],
        "test_imports": ["import math"],
        "test_setup_code": "one = 1",
    }
    (found,) = grade_rows([row], ["def f(x):\n    return x + 0.5"])
    assert found.passed


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"test_list": None},
        {"test_list": []},
        {"test_list": "assert f(1)"},
        {"test_list": ["assert f("]},
        {"test_list": ["assert f(1)"], "code": "def f("},
        {"test_list": ["assert f(1)"], "test_imports": ["import"]},
    ],
)
def test_a_row_that_holds_no_asserts_is_one_line(row):
    with pytest.raises(ValueError, match=r"\A[^\n]*;[^\n]*\Z"):
        problem_of(row)


def test_one_sandbox_serves_all_calls(monkeypatch):
    opened = []
    monkeypatch.setattr(rows, "_open", {})
    monkeypatch.setattr(rows, "open_sandbox", lambda name: opened.append(name) or Closed())
    monkeypatch.setenv(rows.SANDBOX_VARIABLE, "http://there:1")
    first, again, other = rows.opened(None), rows.opened(None), rows.opened("docker")
    assert first is again and first is not other and opened == ["http://there:1", "docker"]


class Closed:
    def close(self):
        pass


# ------------------------------------------------------------------------------------ TRL


def trl(*completions, reward=trl_reward, **columns):
    n = len(completions)
    lists = {name: [value] * n for name, value in {**ADD, **columns}.items()}
    return reward(
        prompts=["p"] * n, completions=list(completions), completion_ids=[[1]] * n, **lists
    )


def test_a_trl_reward_is_that_of_our_own_training():
    right, half, cheat, none = trl(RIGHT, HALF, CHEAT, "I do not know.")
    # all asserts, or one of two; 0.3 for the form, of which prose has a third at most
    assert (right, half, cheat) == (1.3, 0.8, 0.3) and none < 0.3


def test_a_trl_reward_reads_conversations_and_leaves_other_columns_alone():
    said = [{"role": "user", "content": "x"}, {"role": "assistant", "content": RIGHT}]
    reward = make_trl_reward(format_weight=0.0)
    assert trl(
        said, [], [{"role": "assistant"}], reward=reward, difficulty=3, task_id="mine/1"
    ) == [
        1.0,
        0.0,
        0.0,
    ]


@pytest.mark.usefixtures("lost_sandbox")
def test_a_sandbox_that_fails_is_an_error_and_no_reward():
    for ask in (lambda: trl(RIGHT), lambda: compute_score("mbpp", RIGHT, ADD)):
        with pytest.raises(SandboxError, match="engine is gone"):
            ask()


def test_the_package_offers_its_trl_reward_and_imports_nothing_for_it():
    import subprocess
    import sys

    program = (
        "import sys, evaluator\nassert not {'evaluator.grading.grade', 'torch'} & set(sys.modules)\n"
        "from evaluator import trl_reward\nassert 'torch' not in sys.modules and callable(trl_reward)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# ----------------------------------------------------------------------------------- verl


@pytest.mark.parametrize("truth", [ADD, json.dumps(ADD)])
def test_a_verl_score_says_what_failed(truth):
    found = compute_score("mbpp", HALF, truth, extra_info={"index": 1}, num_turns=1)
    assert (found["score"], found["acc"], found["outcome"]) == (0.5, 0.0, "wrong_answer")
    assert "add(1, 2) gave 0, expected 3" in found["feedback"]


def test_verl_scores_of_a_batch_come_in_order_and_settings_count():
    scores = compute_scores(["a"] * 3, [RIGHT, CHEAT, HALF], [ADD] * 3, format_weight=0.3)
    assert [found["score"] for found in scores] == [1.3, 0.3, 0.8]


@pytest.mark.parametrize("truth", ["[1]", "nonsense", "{}", "null"])
def test_a_ground_truth_that_is_no_row_is_an_error(truth):
    with pytest.raises(ValueError):
        compute_score("mbpp", RIGHT, truth)
