"""What TAB offers: commands, options, shipped configurations, labels and run ids; without importing what is heavy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from sdpo_bench import main


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, run_id, label in (
        ("runs", "eval-gold-1", "gold"), ("runs", "eval-base-2", "baseline"),
        ("runs", "eval-odd-3", "two words"), ("others", "eval-other-4", "other"),
    ):  # fmt: skip
        (tmp_path / folder / run_id).mkdir(parents=True)
        content = {"run_id": run_id, "label": label}
        (tmp_path / folder / run_id / "run.json").write_text(json.dumps(content))
    (tmp_path / "runs/torn").mkdir()
    (tmp_path / "runs/torn/run.json").write_text("{")


def offered(*words):
    *before, incomplete = words
    complete = ShellComplete(main, {}, "sdpo-bench", "_SDPO_BENCH_COMPLETE")
    return [item.value for item in complete.get_completions(list(before), incomplete)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["re"], ["reproduce", "regrade", "report", "restore"]),
        (["compare", ""], ["baseline", "eval-base-2", "eval-gold-1", "eval-odd-3", "gold"]),
        (["compare", "gold", "ba"], ["baseline"]),
        (["compare", "gold", "gold,ba"], ["gold,baseline"]),
        (["compare", "--runs-dir", "others", ""], ["eval-other-4", "other"]),
        (["show", "go"], ["gold"]),
        (["regrade", "go"], ["gold"]),
        (["report", "go"], ["gold"]),
        (["plots", "--run", "go"], ["gold"]),
        (["watch", "go"], ["gold"]),
        (["eval", "--resume", "eval-g"], ["eval-gold-1"]),
        (["solve", "--unsolved-by", "go"], ["gold"]),
        (["train", "--resume", "runs/eval-g"], ["runs/eval-gold-1"]),
        (["train", "sdpo", "--config", "smoke-cpu-"], ["smoke-cpu-4bit", "smoke-cpu-"]),
        (["eval", "--gol"], ["--gold"]),
        (["sandbox", "at"], ["attack"]),
    ],
)
def test_tab_offers(words, expected):
    assert offered(*words) == expected


def test_the_shells_own_script_is_to_be_had_and_completing_imports_nothing_heavy(monkeypatch):
    program = (
        "import sys; from sdpo_bench import main; from click.shell_completion import ShellComplete; "
        "c = ShellComplete(main, {}, 'sdpo-bench', '_X'); c.get_completions([], 'tr'); "
        "c.get_completions(['train', '--resume'], 'runs/'); "
        "print({'torch', 'duckdb', 'scipy', 'rich', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
    for shell in ("bash", "zsh", "fish"):
        monkeypatch.setenv("_SDPO_BENCH_COMPLETE", f"{shell}_source")
        done = subprocess.run(
            [Path(sys.executable).with_name("sdpo-bench")], capture_output=True, text=True
        )
        assert "_SDPO_BENCH_COMPLETE" in done.stdout
