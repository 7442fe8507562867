"""`gap` and `solve` with a model whose tokenizer has no chat template, and with a person's own feedback."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from analysis.journal.journal import read_run_info, segments
from analysis.journal.lines import scan
from evaluator.problems.mbpp import load_problems
from evaluator.problems.prompt import MBPP_3SHOT, conversation
from evaluator.sampling.model import load_policy
from evaluator.sampling.policy import Sample
from sandbox.program import AssertResult, Verdict
from sdpo_bench import main
from tests.tiny_model import make_tiny_model
from tests.trainer.fakes import HashSandbox
from trainer.options.prompting import Asking
from trainer.teacher.shown import Asked, ask

SHOTS = load_problems("embedded/test", limit=3).problems
PROBLEMS = {problem.task_id: problem for problem in load_problems("embedded/train").problems}
ANSWER_BEGINS = "\n[BEGIN]\n"


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("bare"), chat_template=False)


@pytest.fixture
def graded_by_hash(monkeypatch):
    """Answers pass where a hash of their text says so, and the few-shot form has examples."""
    sandbox = HashSandbox()
    monkeypatch.setattr("trainer.options.prompting.load_shots", lambda protocol, **_: SHOTS)
    for place in ("teacher.shown", "rollouts.rollouts"):
        monkeypatch.setattr(f"trainer.{place}.grade", sandbox.grade)
    monkeypatch.setattr("evaluator.evaluation.evaluate.grade", sandbox.grade)
    for place in ("sandbox.client", "trainer.training.train", "trainer.experiments.solve"):
        monkeypatch.setattr(f"{place}.open_sandbox", lambda backend: sandbox)
    # the hash judges references too, and so would not pass the check of the grading
    monkeypatch.setattr("evaluator.evaluation.self_check.check_harness", lambda *_, **__: None)
    monkeypatch.setattr("trainer.experiments.solve.check_harness", lambda *_, **__: None)
    return sandbox


@pytest.fixture
def gap(graded_by_hash, tmp_path):
    def call(model, *options, code=0):
        words = ["gap", "--device", "cpu", "--runs-dir", str(tmp_path / "runs")]
        if "--resume" not in options:
            words += ["--model", str(model), "--dataset", "embedded/train"]
            words += ["--limit", "3", "--max-new-tokens", "8"]
        result = CliRunner().invoke(main, [*words, *options], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return call


def only_run(tmp_path):
    (run,) = (tmp_path / "runs").iterdir()
    return run


def rows_of(run, table):
    lines = (line for _, path in segments(run) for line in scan(path))
    return [json.loads(line.row) for line in lines if line.table == table]


@pytest.mark.slow
def test_gap_asks_a_model_without_a_chat_template_in_the_few_shot_form(gap, bare, tmp_path):
    result = gap(bare)
    assert "pass rate, greedy" in result.output
    run = only_run(tmp_path)
    assert read_run_info(run).protocol == "mbpp-3shot"
    kinds = set()
    for row in rows_of(run, "gap_answers"):
        asked = conversation(PROBLEMS[row["task_id"]], MBPP_3SHOT, SHOTS)
        kinds.add(row["shown"])
        if row["shown"] == "nothing":
            assert row["prompt"] == asked, "the very text that an evaluation asks"
        else:
            assert row["prompt"].startswith(asked.removesuffix(ANSWER_BEGINS))
            assert row["prompt"].endswith(ANSWER_BEGINS) and row["prompt"].count("[BEGIN]") == 4
    assert {"nothing", "reference", "other"} < kinds
    assert rows_of(run, "gap_logprobs")
    before = result.output.split("Run:")[0]
    assert gap(bare, "--resume", run.name).output.split("Run:")[0] == before


def test_gap_asks_it_with_a_prompt_of_ones_own(gap, bare, tmp_path):
    (tmp_path / "prompt.txt").write_text("Q: {text}\n{tests}\nA:\n")
    gap(bare, "--prompt-template", str(tmp_path / "prompt.txt"))
    prompts = [row["prompt"] for row in rows_of(only_run(tmp_path), "gap_answers")]
    assert all(text.startswith("Q: ") and text.endswith("\nA:\n") for text in prompts)


def test_an_answer_of_the_few_shot_form_ends_at_its_mark(bare, monkeypatch):
    sampled = [Sample("x = 1\n[DONE]\n\nYou are", 9, False, "p")]
    monkeypatch.setattr("trainer.teacher.shown.generate", lambda *_, **__: sampled)
    sandbox = HashSandbox()
    graded = []
    monkeypatch.setattr(
        "trainer.teacher.shown.grade",
        lambda pairs, _sandbox, *, timeout_s: graded.extend(pairs) or sandbox.grade(pairs, None),
    )
    problem = next(iter(PROBLEMS.values()))
    asked = [Asked(problem, Asking(MBPP_3SHOT, SHOTS).messages(problem))]
    (answer,) = ask(
        load_policy(str(bare), device="cpu"),
        asked,
        sandbox,
        max_new_tokens=8,
        batch_size=1,
        protocol=MBPP_3SHOT,
    )
    assert answer.sample.text == "x = 1\n"
    assert graded == [(problem, "x = 1\n")]


@pytest.fixture
def solve(graded_by_hash, config_file, tmp_path, bare):
    def call(*options):
        config = config_file(
            num_generations=4, max_completion_length=8, model_name_or_path=str(bare)
        )
        words = ["solve", "--config", str(config), "--dataset", "embedded/train", "--tasks", "5"]
        words += ["--runs-dir", str(tmp_path / "runs"), "--budget", "8", "--turns", "3"]
        result = CliRunner().invoke(main, [*words, *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result

    return call


def test_solve_asks_every_method_of_such_a_model_the_same(solve, graded_by_hash, tmp_path):
    execute = graded_by_hash._execute
    never = AssertResult("assert f()", Verdict.FAILED, expected="1", got="2", call="f()")
    graded_by_hash._execute = lambda program: replace(execute(program), results=(never,) * 3)
    result = solve("--max_teacher_prompt_tokens", "2000")
    runs = {read_run_info(path).kind: path for path in (tmp_path / "runs").iterdir()}
    assert read_run_info(runs["eval"]).protocol == "mbpp-3shot"
    asked = conversation(PROBLEMS[5], MBPP_3SHOT, SHOTS)
    answers = rows_of(runs["eval"], "eval_results")
    by_method = {
        method: [row for row in answers if row["eval_id"].startswith(method)]
        for method in ("best-of-n", "multi-turn", "sdpo")
    }
    assert {len(rows) for rows in by_method.values()} == {8}, result.output
    assert {row["prompt"] for row in by_method["best-of-n"]} == {asked}
    assert {row["prompt"] for row in rows_of(runs["train"], "rollouts")} == {asked}
    turns = by_method["multi-turn"]
    assert turns[0]["prompt"] == asked
    first = turns[0]["completion"].rstrip()
    assert turns[1]["prompt"].startswith(f"{asked}{first}\n[DONE]\n\nThat answer failed:\n\n")
    assert turns[1]["prompt"].endswith(ANSWER_BEGINS)
    assert "code block" not in turns[1]["prompt"]


def own_feedback(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(f"def said(grade, completion):\n    return {text!r}\n")
    return f"{path}:said"


def test_gap_shows_feedback_of_ones_own_and_records_it(gap, tiny_model, tmp_path):
    spec = own_feedback(tmp_path, "It <|end|> misses a case.")
    gap(tiny_model, "--feedback", spec)
    run = only_run(tmp_path)
    shown = [r["prompt"] for r in rows_of(run, "gap_answers") if r["shown"] == "feedback"]
    assert shown and all("It < |end| > misses a case." in prompt for prompt in shown)
    info = read_run_info(run)
    assert info.feedback_function == spec and len(info.feedback_sha256) == 64
    own_feedback(tmp_path, "Something else.")
    result = gap(tiny_model, "--resume", run.name, code=1)
    assert "must have the feedback it began with" in result.output


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("missing.py:f", "--feedback must name a file that is there"),
        ("{}/mine.py:nothing", "--feedback must name a function"),
        ("mine", "--feedback must be module:function"),
        ("{}/number.py:said", "must return a text or None"),
    ],
)
def test_feedback_that_cannot_be_used_is_one_line_and_no_run(gap, tiny_model, tmp_path, spec, said):
    own_feedback(tmp_path, "x")
    (tmp_path / "number.py").write_text("def said(grade, completion):\n    return 3\n")
    result = gap(tiny_model, "--feedback", spec.replace("{}", str(tmp_path)), code=1)
    assert said in result.output
    assert result.output.count("\n") == 1 and not (tmp_path / "runs").exists()
