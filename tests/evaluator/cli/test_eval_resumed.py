from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluator.cli import sources
from evaluator.engines import worker
from evaluator.results.stored import read_evals
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


def completions(run):
    (item,) = read_evals(run)
    return {key: row.completion for key, row in item.results.items()}


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
