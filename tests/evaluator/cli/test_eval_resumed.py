from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluator.cli import sources
from evaluator.engines import worker
from evaluator.results.stored import read_evals
from evaluator.sampling.policy import Sample
from sdpo_bench import main
from tests.evaluator.conftest import FakeSandbox

SAMPLED = (
    "eval --dataset embedded/test --limit 2 -n 5 --temperature 1 --max-new-tokens 12 --device cpu"
)


class Stopping(FakeSandbox):
    """Stops as Ctrl-C does at the second batch."""

    n_runs = 0

    def run(self, programs):
        self.n_runs += 1
        if self.n_runs == 2:
            raise KeyboardInterrupt
        return super().run(programs)


def stored_answers(run):
    (item,) = read_evals(run)
    return item, {key: row.completion for key, row in item.results.items()}


def completions(run):
    return stored_answers(run)[1]


@pytest.mark.parametrize("size", [1, 3])
def test_samples_after_a_resumption_are_those_of_a_run_without_one(
    monkeypatch, tmp_path, tiny_folder, size
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker, "check_harness", lambda *a, **k: None)
    # With code in each, grading has something to run.
    monkeypatch.setattr(
        "evaluator.sampling.batches.before_stop", lambda text, stop: f"```\nx = {text!r}\n```"
    )

    def evaluate(sandbox, *words):
        monkeypatch.setattr(sources, "open_sandbox", lambda backend: sandbox)
        return CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False).exit_code

    begun = (*SAMPLED.split(), "--model", tiny_folder, "--batch-size", size)
    assert evaluate(FakeSandbox(), *begun, "--runs-dir", "whole") == 0
    assert evaluate(Stopping(), *begun, "--runs-dir", "cut") == 130
    (whole,), (cut,) = Path("whole").iterdir(), Path("cut").iterdir()
    assert len(completions(cut)) == size
    assert evaluate(FakeSandbox(), "eval", "--resume", cut.name, "--runs-dir", "cut") == 0
    assert completions(cut) == completions(whole)
    assert len(set(completions(whole).values())) == 10


def interrupted(invoke, monkeypatch, tiny_folder):
    """A run that is stopped from the keyboard after its first batch of four."""

    stopping = Stopping()
    monkeypatch.setattr(sources, "open_sandbox", lambda backend: stopping)
    monkeypatch.setattr(worker, "check_harness", lambda *a, **k: None)
    # A tokenizer of bytes writes no code, so answers are made up for it.
    answers = iter(range(100))
    monkeypatch.setattr(
        "evaluator.sampling.batches.sample_batch",
        lambda policy, batch, **options: scripted(batch, answers),
    )
    result = invoke("--model", tiny_folder, "--limit", 10, "--batch-size", 4, "--label", "cut")
    assert result.exit_code == 130 and "--resume" in result.stderr
    monkeypatch.setattr(sources, "open_sandbox", lambda backend: FakeSandbox())
    (run,) = Path("runs").iterdir()
    return run


def scripted(batch, numbers):
    return {
        i: Sample(f"```\nnumber = {next(numbers)}\n```", 3, False, "asked") for i in batch.indices
    }


def test_an_interrupted_run_goes_on_where_it_stopped(invoke, monkeypatch, tiny_folder):
    run = interrupted(invoke, monkeypatch, tiny_folder)
    item, before = stored_answers(run)
    assert item.row is None
    assert len(before) == 4
    result = CliRunner().invoke(main, ["eval", "--resume", run.name], catch_exceptions=False)
    assert result.exit_code == 0
    assert "0/10" in result.stdout
    item, after = stored_answers(run)
    assert item.row.n == 10
    assert {key: after[key] for key in before} == before
    assert len(set(after.values())) == 10


def test_half_a_line_of_a_killed_run_is_sampled_again(invoke, monkeypatch, tiny_folder):
    run = interrupted(invoke, monkeypatch, tiny_folder)
    (segment,) = run.glob("segment-*")
    lines = segment.read_bytes().split(b"\n")
    cut = max(i for i, line in enumerate(lines) if b'"task_id":' in line)
    segment.write_bytes(b"\n".join(lines[:cut]) + b"\n" + lines[cut][:40])
    result = CliRunner().invoke(main, ["eval", "--resume", run.name], catch_exceptions=False)
    assert result.exit_code == 0
    assert stored_answers(run)[0].row.n == 10
