"""Whole calls of `solve` with the tiny model, whose answers pass where a hash of their text says so."""

import json
import zlib

import pytest
from click.testing import CliRunner

from analysis.journal.journal import segments
from analysis.journal.lines import scan
from evaluator.answers.extract import Extraction
from evaluator.evaluation.self_check import check_harness
from evaluator.grading.grade import Grade
from sandbox.program import AssertResult, Execution, Verdict
from sdpo_bench import main
from tests.trainer.fakes import HashSandbox


@pytest.fixture
def one_in(monkeypatch):
    """One answer in so many passes, by a hash of its text."""

    def set_rate(rate):
        def grade(pairs, _sandbox, *, timeout_s):
            return [graded(problem, text) for problem, text in pairs]

        def graded(problem, text):
            digest = zlib.crc32(text.encode("utf-8", "surrogatepass"))
            verdict = Verdict.PASSED if digest % rate == 0 else Verdict.FAILED
            results = tuple(
                AssertResult(text, verdict, expected="1", got="2", call="f()")
                for text in problem.asserts
            )
            return Grade(problem, text, Extraction(text, None, 1), Execution(results, 1.0, 1.0, 1))

        monkeypatch.setattr("trainer.rollouts.rollouts.grade", grade)
        monkeypatch.setattr("evaluator.evaluation.evaluate.grade", grade)
        monkeypatch.setattr("trainer.training.train.open_sandbox", lambda backend: HashSandbox())
        monkeypatch.setattr("trainer.experiments.solve.open_sandbox", lambda backend: HashSandbox())
        # The hash judges references too, and so would not pass the check of the grading.
        monkeypatch.setattr("trainer.experiments.solve.check_harness", lambda *_, **__: None)

    return set_rate


@pytest.fixture
def solve(config_file, tmp_path):
    def call(*options, code=0, **changes):
        config = config_file(num_generations=4, max_completion_length=8, **changes)
        arguments = ["solve", "--config", str(config), "--dataset", "embedded/train"]
        arguments += ["--runs-dir", str(tmp_path / "runs"), "--json", str(tmp_path / "out.json")]
        result = CliRunner().invoke(main, [*arguments, *options], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return call


def rows_of(run_dir, table):
    return [
        json.loads(line.row)
        for _, path in segments(run_dir)
        for line in scan(path)
        if line.table == table
    ]


def runs(tmp_path, kind):
    found = []
    for path in sorted((tmp_path / "runs").iterdir()):
        info = json.loads((path / "run.json").read_text())
        if info["kind"] == kind:
            found.append((path, info))
    return found


def test_each_method_has_the_same_budget_and_ends_at_its_first_pass(solve, one_in, tmp_path):
    one_in(16)
    result = solve("--tasks", "1,2,3", "--budget", "12", "--turns", "3")
    assert "discovery@12" in result.stdout
    assert "best-of-n and sdpo: not distinguishable" in result.stdout
    ((run, info),) = runs(tmp_path, "eval")
    assert info["label"] == "solve"
    assert info["config"]["solve"]["budget"] == 12
    by_method = {}
    for row in rows_of(run, "eval_results"):
        by_method.setdefault(row["eval_id"], {}).setdefault(row["task_id"], []).append(row)
    assert set(by_method) == {"best-of-n-42", "multi-turn-42", "sdpo-42"}
    outcomes = set()
    for method, tasks in by_method.items():
        assert set(tasks) == {1, 2, 3}
        for rows in tasks.values():
            passed = [row["passed"] for row in rows]
            assert [row["sample_index"] for row in rows] == list(range(len(rows)))
            if method == "best-of-n-42":
                assert len(rows) == 12
            else:
                assert len(rows) == 12 or passed[-1]
                assert not any(passed[:-1])
                outcomes.add(passed[-1])
    assert outcomes == {True, False}, "both kinds must occur to show anything"
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["task_ids"] == [1, 2, 3]
    for method, tasks in by_method.items():
        found = sum(any(row["passed"] for row in rows) for rows in tasks.values())
        assert content["methods"][method.removesuffix("-42")]["n_found"] == found


def test_sdpo_trains_on_one_problem_and_stops_after_the_step_that_solves_it(
    solve, one_in, tmp_path
):
    one_in(6)
    solve("--tasks", "1,2", "--budget", "16", "--methods", "sdpo")
    trained = runs(tmp_path, "train")
    assert [info["label"] for _, info in trained] == ["solve-1", "solve-2"]
    assert [info["dataset"] for _, info in trained] == ["embedded/train[1]", "embedded/train[2]"]
    for run, _ in trained:
        rollouts = rows_of(run, "rollouts")
        passed = [row["step"] for row in rollouts if row["correctness"] == 1.0]
        steps = {row["step"] for row in rollouts}
        assert len(rollouts) == 4 * len(steps), "one group of 4 a step"
        assert len({row["task_id"] for row in rollouts}) == 1
        assert max(steps) == (min(passed) if passed else 4)


def test_rows_of_sdpo_are_its_rollouts_in_the_order_of_sampling(solve, one_in, tmp_path):
    one_in(10**9)
    solve("--tasks", "1", "--budget", "8", "--methods", "sdpo", "--learning_rate", "1.0")
    ((run, _),) = runs(tmp_path, "train")
    rollouts = rows_of(run, "rollouts")
    assert [row["step"] for row in rollouts] == [1] * 4 + [2] * 4
    assert all(row["teacher_prompt"] and row["feedback_used"] for row in rollouts)
    ((run, _),) = runs(tmp_path, "eval")
    told = [row["completion"] for row in rows_of(run, "eval_results")]
    assert told == [row["completion"] for row in rollouts]


def test_a_turn_shows_the_failed_answer_and_what_the_sandbox_said(solve, one_in, tmp_path):
    one_in(10**9)
    solve("--tasks", "5", "--budget", "8", "--turns", "3", "--methods", "multi-turn")
    ((run, _),) = runs(tmp_path, "eval")
    rows = rows_of(run, "eval_results")
    assert len(rows) == 8
    n_turns = [row["prompt"].count("<|assistant|>") for row in rows]
    assert n_turns == [1, 2, 3, 1, 2, 3, 1, 2], "three answers a conversation, then a fresh one"
    assert rows[1]["prompt"].startswith(rows[0]["prompt"] + rows[0]["completion"] + "<|end|>")
    assert "That answer failed:\n\n" in rows[1]["prompt"]
    assert "expected 1" in rows[1]["prompt"]


@pytest.mark.slow
def test_several_seeds_are_runs_of_their_own(solve, one_in, tmp_path):
    one_in(5)
    solve("--tasks", "1", "--budget", "4", "--methods", "best-of-n,sdpo", "--seeds", "1,2")
    ((run, _),) = runs(tmp_path, "eval")
    rows = rows_of(run, "eval_results")
    assert {row["eval_id"] for row in rows} == {"best-of-n-1", "best-of-n-2", "sdpo-1", "sdpo-2"}
    first, second = (
        [row["completion"] for row in rows if row["eval_id"] == f"best-of-n-{seed}"]
        for seed in (1, 2)
    )
    assert first != second
    # two that began in one second have no order by name
    assert sorted(info["seed"] for _, info in runs(tmp_path, "train")) == [1, 2]


def test_grading_is_checked_on_these_problems_before_any_completion(
    solve, one_in, tmp_path, monkeypatch
):
    one_in(2)
    monkeypatch.setattr("trainer.experiments.solve.check_harness", check_harness)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = solve("--tasks", "1", "--budget", "4", code=1)
    assert "every reference solution must pass" in result.stderr
    ((run, _),) = runs(tmp_path, "eval")
    assert rows_of(run, "eval_results") == []


def test_a_model_of_unknown_strength_is_no_reason_to_stop(solve, one_in, tmp_path):
    one_in(3)
    solve("--tasks", "1", "--budget", "4", "--methods", "sdpo", "--allow_uncalibrated", "false")
    assert len(runs(tmp_path, "train")) == 1


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        (("--tasks", "1", "--budget", "6"), "must be a multiple of num_generations 4", 1),
        (("--tasks", "999", "--budget", "4"), "got 999", 1),
        (("--tasks", "<x>"), "task ids joined by commas", 2),
        (("--tasks", "1", "--methods", "magic"), "--methods must name", 2),
        ((), "by --tasks or by --unsolved-by, got neither", 2),
        (("--unsolved-by", "nothing"), "label of a finished evaluation", 1),
        (("--tasks", "1", "--budget", "4", "--learnin_rate", "1"), "did you mean", 1),
    ],
)
def test_a_users_mistake_is_one_line(solve, one_in, options, words, code):
    one_in(3)
    result = solve(*options, code=code)
    assert words in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")


def test_the_problems_that_an_evaluation_left_unsolved_can_be_taken(solve, one_in, tmp_path):
    one_in(10**9)
    path = tmp_path / "answers.jsonl"
    path.write_text(
        "".join(json.dumps({"task_id": t, "completion": "x"}) + "\n" for t in (1, 2, 3))
    )
    options = ["eval", "--completions", str(path), "--dataset", "embedded/train"]
    options += ["--runs-dir", str(tmp_path / "runs"), "--label", "base", "--sandbox", "process"]
    assert CliRunner().invoke(main, options, catch_exceptions=False).exit_code == 0
    solve("--unsolved-by", "base", "--limit", "2", "--budget", "4", "--methods", "best-of-n")
    assert json.loads((tmp_path / "out.json").read_text())["task_ids"] == [1, 2]
