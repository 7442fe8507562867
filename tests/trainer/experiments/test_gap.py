"""The gap before training: what is shown, what is read, and the figures over both."""

import math
from collections import Counter

import pytest
import torch
from click.testing import CliRunner

from analysis.journal.journal import Journal, StoreError, segments
from analysis.journal.lines import encode
from analysis.queries import run_query
from analysis.records import GapAnswer, GapLogprob
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import synthetic_info
from evaluator.problems.mbpp import load_problems
from evaluator.sampling.model import load_policy
from evaluator.sampling.policy import prompt_text
from sdpo_bench import main
from tests.trainer.fakes import HashSandbox
from trainer.experiments.gap import GapOptions, gap_rows, measure_gap, stored_rows
from trainer.experiments.reading import answer_logprobs

OPTIONS = GapOptions(n_samples=4, max_new_tokens=10, batch_size=8)
N = 6


@pytest.fixture(scope="module")
def policy(tiny_model):
    return load_policy(str(tiny_model), device="cpu")


@pytest.fixture
def measure(policy, tmp_path, monkeypatch):
    """Measures the embedded problems into a journal, with grades that a hash of the text decides."""
    sandbox = HashSandbox()
    monkeypatch.setattr("trainer.teacher.shown.grade", sandbox.grade)
    problems = load_problems("embedded/train", limit=N).problems

    def go(name="gap", *, resume=False, progress=lambda n: None):
        runs_dir = tmp_path / "runs"
        info = synthetic_info(name, algorithm=None, kind="eval", label="gap")
        opened = Journal.resume(runs_dir / name) if resume else Journal.create(runs_dir, info)
        with opened as journal:
            measure_gap(policy, problems, sandbox, journal, OPTIONS, progress=progress)
        return journal.run_dir

    return go


def by_kind(run_dir):
    rows = list(stored_rows(run_dir))
    answers = [row for row in rows if isinstance(row, GapAnswer)]
    return answers, [row for row in rows if isinstance(row, GapLogprob)]


def test_each_problem_is_asked_alone_and_with_everything_that_there_is_to_show(measure):
    answers, logprobs = by_kind(measure())
    own = [row for row in answers if not row.greedy]
    assert list(Counter(row.task_id for row in own).values()) == [OPTIONS.n_samples] * N
    shown = {row.task_id: set() for row in own}
    for row in answers:
        if row.greedy:
            shown[row.task_id].add(row.shown)
    for task_id, kinds in shown.items():
        passed = {row.passed for row in own if row.task_id == task_id}
        expected = {"nothing", "reference", "other"}
        expected |= {"peer"} if True in passed else set()
        expected |= {"feedback", "wrong"} if False in passed else set()
        assert kinds == expected
    assert {row.passed for row in own} == {True, False}, "both kinds must occur to show anything"
    for row in logprobs:
        alone = next(
            x for x in own if (x.task_id, x.sample_index) == (row.task_id, row.sample_index)
        )
        assert row.passed == alone.passed
        assert not (row.shown == "feedback" and row.passed), "a passing answer has no feedback"


def test_an_answer_is_never_shown_itself(measure):
    answers, logprobs = by_kind(measure())
    own = {(row.task_id, row.sample_index): row for row in answers if not row.greedy}
    for kind, passed in (("peer", True), ("wrong", False)):
        for row in logprobs:
            if row.shown == kind:
                others = [
                    other
                    for (task_id, index), other in own.items()
                    if task_id == row.task_id and index != row.sample_index
                ]
                assert any(other.passed is passed for other in others)


def test_mean_log_p_is_that_of_each_answer_read_alone_in_float64(policy):
    """Padding, batching and the lean head change nothing; the temperature divides the logits."""
    talks = [[{"role": "user", "content": "x" * n}] for n in (3, 40, 11)]
    texts = ["def f(): return 1", "no", "a longer answer than the others, with more tokens"]
    found = answer_logprobs(
        policy, list(zip(talks, texts, strict=True)), temperature=0.7, batch_size=2
    )
    for talk, text, (n_tokens, mean) in zip(talks, texts, found, strict=True):
        prompt = policy.tokenizer(prompt_text(policy.tokenizer, talk))["input_ids"]
        answer = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = policy.model(torch.tensor([prompt + answer])).logits[0].double() / 0.7
        logp = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        alone = logp.gather(-1, torch.tensor(answer).unsqueeze(-1)).mean()
        assert n_tokens == len(answer)
        assert math.isclose(mean, float(alone), abs_tol=1e-5)


def test_a_run_that_was_interrupted_measures_what_it_would_have(measure):
    whole = [repr(row) for row in stored_rows(measure("whole"))]

    def interrupt(n_problems):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure("cut", progress=interrupt)
    assert [repr(row) for row in stored_rows(measure("cut", resume=True))] == whole


def test_rows_of_another_version_are_one_line(tmp_path):
    with Journal.create(tmp_path, synthetic_info("gap", algorithm=None, kind="eval")) as journal:
        pass
    (_, path), *_ = segments(journal.run_dir)
    with path.open("ab") as file:
        file.write(encode("gap_answers", b'{"task_id": 1}'))
    with pytest.raises(StoreError, match="must be of this version.*upgrade sdpo-bench") as error:
        list(stored_rows(journal.run_dir))
    assert "\n" not in str(error.value)


def test_the_view_and_the_command_give_the_same_figures(measure, tmp_path):
    rows = gap_rows(measure())
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        stored = run_query(connection, "FROM teacher_gap").records()
    assert len(stored) == len(rows) > 10
    for row in rows:
        (same,) = [x for x in stored if (x["measure"], x["shown"]) == (row.measure, row.shown)]
        assert same["n"] == row.n
        assert math.isclose(same["nothing"], row.nothing)
        assert math.isclose(same["difference"], row.difference, abs_tol=1e-12)
        if row.interval is None:
            assert same["interval_low"] is None or row.n < 3
        else:
            # the view takes Student's t from an expansion that is 1 % low at two degrees of freedom
            width = row.interval.high - row.interval.low
            assert math.isclose(same["interval_low"], row.interval.low, abs_tol=0.01 * width + 1e-9)
            assert math.isclose(
                same["interval_high"], row.interval.high, abs_tol=0.01 * width + 1e-9
            )


def test_the_command_measures_stores_and_prints(tiny_model, tmp_path, monkeypatch):
    sandbox = HashSandbox()
    monkeypatch.setattr("trainer.teacher.shown.grade", sandbox.grade)
    monkeypatch.setattr("sandbox.client.open_sandbox", lambda backend: sandbox)
    monkeypatch.setattr("evaluator.evaluation.self_check.check_harness", lambda *a, **k: None)
    arguments = [
        "gap",
        "--model",
        str(tiny_model),
        "--device",
        "cpu",
        "--dataset",
        "embedded/train",
    ]
    arguments += ["--limit", "3", "--max-new-tokens", "8", "--runs-dir", str(tmp_path / "runs")]
    arguments += ["--json", str(tmp_path / "gap.json")]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "the reference" in result.output and "pass rate, greedy" in result.output
    assert (tmp_path / "gap.json").is_file()
    (run,) = (tmp_path / "runs").iterdir()
    again = CliRunner().invoke(
        main, ["gap", "--resume", run.name, "--runs-dir", str(tmp_path / "runs")]
    )
    assert again.exit_code == 0, again.output
    assert again.output.split("Run:")[0] == result.output.split("Run:")[0]
    place = ["--sandbox", "process", "--device", "cpu", "--json", str(tmp_path / "again.json")]
    moved = CliRunner().invoke(
        main, ["gap", "--resume", run.name, "--runs-dir", str(tmp_path / "runs"), *place]
    )
    assert moved.exit_code == 0, moved.output
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "gap.json").read_bytes()
    other = CliRunner().invoke(main, ["gap", "--runs-dir", str(tmp_path / "runs")])
    assert other.exit_code == 2 and "--model" in other.output
