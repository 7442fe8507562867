import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.provenance import Weights, run_info
from analysis.statistics.conditions import conditions, differences
from evaluator.cli import regrade, sources
from evaluator.problems.mbpp import load_problems
from evaluator.results.stored import StoredEval, find_evals
from sdpo_bench import main
from tests.evaluator.conftest import FakeSandbox

PROBLEMS = load_problems("embedded/test").problems
RUNS = Path("runs")


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Call `sdpo-bench` with a sandbox of trusted answers and its own folder."""
    for module in (sources, regrade):
        monkeypatch.setattr(module, "open_sandbox", lambda backend: FakeSandbox())
    monkeypatch.delenv("MBPP_DIR", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*words):
        return CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)

    return call


def recorded(invoke):
    """An evaluation of three recorded answers, of which the last fails."""
    rows = [{"task_id": p.task_id, "completion": f"```\n{p.reference}\n```"} for p in PROBLEMS[:3]]
    rows[-1]["completion"] = "no code"
    Path("answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = invoke("eval", "--completions", "answers.jsonl", "--dataset", "embedded/test")
    assert done.exit_code == 0, done.output


def test_answers_are_graded_again_and_stored_beside_the_first(invoke):
    recorded(invoke)
    (run,) = RUNS.iterdir()
    before = {path: path.read_bytes() for path in run.iterdir()}
    said = invoke("regrade", "answers", "--timeout-s", "9")
    assert said.exit_code == 0, said.output
    assert "answers-regraded: 2 of 3 answers pass, before 2\n" in said.stdout
    assert "Another verdict" not in said.stdout
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    (old,), (new,) = (find_evals(RUNS, name) for name in ("answers", "answers-regraded"))
    assert new.info.config["regraded"] == f"{run.name}/final" == old.name
    assert new.info.config["sampled"]["run_id"] == run.name
    assert (new.info.config["timeout_s"], old.info.config["timeout_s"]) == (9, 5)
    changed = {"execution_id", "sandbox_wall_s", "wall_s", "cpu_s", "queue_s", "peak_kb"}
    for key, row in old.results.items():
        ours, theirs = (item.model_dump() for item in (new.results[key], row))
        assert {n for n in ours if ours[n] != theirs[n]} <= changed
    said = invoke("sql", "SELECT label, k, n FROM leaderboard ORDER BY label", "--format", "csv")
    assert said.stdout.split() == ["label,k,n", "answers,2,3", "answers-regraded,2,3"]


class WithoutPackages(FakeSandbox):
    """An image in which the first task's answer does not run."""

    name = "fake without packages"

    def _run(self, program):
        name = PROBLEMS[0].callables[0]
        return super()._run(
            replace(program, code="import none" if name in program.code else program.code)
        )


def test_another_verdict_is_told_with_its_task(invoke, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sources, "open_sandbox", lambda backend: WithoutPackages())
        recorded(invoke)
    said = invoke("regrade", "answers", "--suffix", " (again)")
    assert said.exit_code == 0, said.output
    assert "answers (again): 2 of 3 answers pass, before 1\n" in said.stdout
    assert f"Another verdict than before: task {PROBLEMS[0].task_id}\n" in said.stdout
    for name, sandbox in (("answers", "fake without packages"), ("answers (again)", "fake")):
        assert find_evals(RUNS, name)[0].info.sandbox == sandbox


def refused(result, *words):
    assert result.exit_code == 1
    (text,) = result.stderr.strip().splitlines()
    assert text.startswith("Error: ") and all(word in text for word in words), text
    assert len(list(RUNS.iterdir())) == 1


def test_what_cannot_be_graded_again_is_refused_before_anything_is_written(invoke):
    recorded(invoke)
    (run,) = RUNS.iterdir()
    refused(invoke("regrade", "nobody"), "'nobody'")
    refused(invoke("regrade", "answers", "--suffix", ",b"), "a comma parts labels")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "dataset_sha256": "0" * 64}))
    refused(invoke("regrade", "answers"), "sha256 000000000000", "bring back that version")
    (run / "run.json").write_text(json.dumps({**info, "kind": "train"}))
    refused(invoke("regrade", run.name), "of a training run", "evaluate its adapter")


def test_an_interrupted_one_begins_anew(invoke, monkeypatch):
    recorded(invoke)
    (run,) = RUNS.iterdir()

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(regrade, "record", interrupted)
        assert invoke("regrade", "answers").exit_code != 0
    (half,) = set(RUNS.iterdir()) - {run}
    said = invoke("eval", "--resume", half.name)
    assert said.exit_code == 1
    remedy = said.stderr.split("`sdpo-bench ")[1].split("`")[0]
    assert invoke(*remedy.split()).exit_code == 0
    assert find_evals(RUNS, "answers-regraded")[0].row is not None


def evaluation(seed, sandbox, torch):
    info = run_info(
        kind="eval",
        label=f"x-{seed}",
        config={"timeout_s": 5.0, "engine": "local"},
        dataset=load_problems("embedded/test"),
        protocol=load_problems("embedded/test"),
        sandbox=sandbox,
        seed=seed,
        weights=Weights("m", "0" * 64),
    )
    update = {"packages": {"torch": torch}, "git_commit": "f" * 40, "git_dirty": False}
    return info.model_copy(update=update)


def regraded(info, sandbox="docker sha256:1 guest 2 Python 3.13.5"):
    row = type("Row", (), {"label": info.label, "eval_id": "final"})()
    item = StoredEval(info, Path("runs/x"), row, {})
    return regrade._describe(item, load_problems("embedded/test"), sandbox, 5.0, "-regraded")


def test_graded_again_alike_evaluations_of_two_sandboxes_can_be_compared():
    one, other = evaluation(1, "docker sha256:a", "2.1"), evaluation(2, "docker sha256:b", "2.1")
    named = differences([conditions(one)], [conditions(other)])
    assert [name.split(" (")[0] for name in named] == ["evaluated with sandbox"]
    assert differences([conditions(regraded(one))], [conditions(regraded(other))]) == ()
    # graded a third time, they still come from where they were sampled
    assert regraded(regraded(one)).config["sampled"] == regraded(one).config["sampled"]


def test_a_run_that_says_half_of_what_sampled_it_is_still_compared():
    half = evaluation(1, "docker sha256:a", "2.1").model_copy(update={"config": {"sampled": {}}})
    assert differences([conditions(half)], [conditions(half)]) == ()


def test_what_the_answers_were_drawn_by_still_counts():
    one, other = evaluation(1, "docker sha256:a", "2.1"), evaluation(2, "docker sha256:a", "2.2")
    other = other.model_copy(update={"git_commit": "e" * 40})
    named = differences([conditions(regraded(one))], [conditions(regraded(other))])
    assert [name.split(" (")[0] for name in named] == [
        "evaluated with code version",
        "evaluated with version of torch",
    ]
    assert "ffffffffffff, graded by" in named[0]
    # nor is one that was graded again like one that was not
    again = differences([conditions(regraded(one))], [conditions(one)])
    assert any("code version" in name for name in again)


def test_references_that_fail_are_graded_again_and_a_run_that_is_named_twice_once(invoke):
    rows = [
        {"task_id": name, "text": "f", "tests": ["assert f(1) == 2"], "reference": code}
        for name, code in (("good", "def f(x):\n    return x + 1"), ("bad", "def f(x): return x"))
    ]
    Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert invoke("eval", "--gold", "--dataset", "own.jsonl").exit_code == 0
    said = invoke("regrade", "gold", "gold")
    assert said.exit_code == 0, said.output
    assert said.stdout.count("gold-regraded: 1 of 2 answers pass, before 1\n") == 1
    assert len(list(RUNS.iterdir())) == 2
    assert "give another by --suffix" in invoke("regrade", "gold").stderr
