"""The commands that ask a model ask and end as training does: template options, and every end token that is listed."""

import json
import shutil

import pytest
from click.testing import CliRunner
from transformers import AutoTokenizer

from analysis.journal.journal import segments
from analysis.journal.lines import scan
from sdpo_bench import main
from tests.trainer.fakes import HashSandbox

MARK = "<think></think>"
TEXT = ("prompt", "completion", "n_completion_tokens", "truncated")


@pytest.fixture
def model(tiny_model, tmp_path):
    """A template that writes what it is given behind the prompt, and half of all bytes as further ends."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "'<|assistant|>'", "'<|assistant|>' + (mark or '')"
    )
    tokenizer.save_pretrained(folder)
    path = folder / "generation_config.json"
    ends = [tokenizer.eos_token_id, *range(0, 256, 2)]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": ends}))
    return folder


@pytest.fixture
def sandbox(monkeypatch):
    box = HashSandbox()
    for name in (
        "trainer.teacher.shown",
        "trainer.rollouts.rollouts",
        "evaluator.evaluation.evaluate",
    ):
        monkeypatch.setattr(f"{name}.grade", box.grade)
    for name in (
        "trainer.training.train",
        "trainer.experiments.solve",
        "sandbox.client",
        "evaluator.cli.sources",
    ):
        monkeypatch.setattr(f"{name}.open_sandbox", lambda backend: box, raising=False)
    monkeypatch.setattr("trainer.experiments.solve.check_harness", lambda *_, **__: None)
    monkeypatch.setattr("evaluator.evaluation.self_check.check_harness", lambda *_, **__: None)


def rows(runs):
    found = []
    for run in runs.iterdir():
        for _, path in segments(run):
            for line in scan(path):
                row = json.loads(line.row)
                if "prompt" in row and row["prompt"] is not None:
                    found.append({name: row[name] for name in TEXT} | {"table": line.table})
    return found


@pytest.mark.parametrize("command", ["eval", "gap", "solve"])
def test_a_command_writes_the_templates_option_and_stops_at_every_listed_end(
    model, sandbox, config_file, tmp_path, command
):
    runs, given = tmp_path / "runs", json.dumps({"mark": MARK})
    asked = ["--model", str(model), "--device", "cpu", "--limit", "3", "--max-new-tokens", "12"]
    asked += ["--chat-template-kwargs", given]
    config = config_file(model_name_or_path=str(model), chat_template_kwargs={"mark": MARK})
    words = {
        "eval": [*asked, "--skip-harness-check", "-n", "4", "--temperature", "1.0"],
        "gap": asked,
        "solve": ["--config", str(config), "--tasks", "1", "--budget", "4", "--turns", "2"],
    }[command]
    data = "embedded/train" if command != "eval" else "embedded/test"
    found = CliRunner().invoke(
        main, [command, *words, "--dataset", data, "--runs-dir", str(runs)], catch_exceptions=False
    )
    assert found.exit_code == 0, found.output
    written = rows(runs)
    assert len(written) >= 8
    assert all(row["prompt"].endswith(f"<|assistant|>{MARK}") for row in written)
    # a random model that only the tokenizer's end could stop would be cut off in 19 of 20
    ended = [row for row in written if not row["truncated"]]
    assert len(ended) > 0.3 * len(written)
    assert all(row["n_completion_tokens"] <= 12 for row in written)
