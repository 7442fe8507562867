"""`--sandbox http://HOST:PORT` in the commands that take it."""

import json

import pytest
from click.testing import CliRunner

from sandbox.client import check_backend, open_sandbox
from sandbox.program import SandboxError
from sdpo_bench import main
from tests.sandbox.http.conftest import TOKEN

TINY = "configs/smoke-cpu.yaml"


@pytest.fixture
def url(served, monkeypatch):
    monkeypatch.setenv("SDPO_BENCH_SANDBOX_TOKEN", TOKEN)
    return served


def journal(folder):
    return [json.loads(line) for file in folder.rglob("*.jsonl") for line in file.open()]


def test_an_evaluation_over_http_stores_the_sandbox_and_every_verdict(url, tmp_path):
    words = ["eval", "--gold", "--dataset", "embedded/all", "--sandbox", url]
    result = CliRunner().invoke(main, [*words, "--runs-dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "40/40" in result.stdout
    stored = "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert "process over http" in stored and TOKEN not in stored


COMMANDS = {
    "eval": ["eval", "--gold", "--dataset", "embedded/test"],
    "solve": [
        "solve",
        "--config",
        TINY,
        "--dataset",
        "embedded/train",
        "--tasks",
        "1",
        "--model_name_or_path",
        "nobody/nothing",
    ],
    "gap": ["gap", "--model", "nowhere", "--dataset", "embedded/test"],
    "demo": ["demo"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_address_that_is_none_is_a_mistake_in_one_line(command, tmp_path, monkeypatch):
    monkeypatch.setenv("SDPO_BENCH_RUNS", str(tmp_path))
    for address in ("http://", "http://me:secret@host:1", "https://host:port", "ftp://host"):
        result = CliRunner().invoke(main, [*COMMANDS[command], "--sandbox", address])
        assert result.exit_code in (1, 2), result.output
        last = result.output.strip().splitlines()[-1]
        assert last.startswith("Error: ") and "sandbox" in last, result.output
        assert "secret" not in result.output and "Traceback" not in result.output


def test_an_address_where_nobody_answers_is_one_line(tmp_path):
    words = [*COMMANDS["eval"], "--sandbox", "http://127.0.0.1:9", "--runs-dir", str(tmp_path)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1 and "sandbox serve" in result.output.splitlines()[-1]


def test_what_the_server_has_settled_cannot_be_asked_of_it():
    with pytest.raises(SandboxError, match="must be taken as it is, got n_workers"):
        open_sandbox("http://127.0.0.1:9", n_workers=3)


@pytest.mark.parametrize("name", ["auto", "docker", "gvisor", "process", "http://a:1", "https://a"])
def test_a_name_of_a_sandbox_is_checked_without_opening_it(name):
    check_backend(name)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("procces", "did you mean 'process'?"),
        ("localhost:8765", "did you mean 'http://localhost:8765'?"),
        ("vm", "name one of these"),
    ],
)
def test_a_wrong_name_of_a_sandbox_is_told_the_right_one(name, advice):
    with pytest.raises(SandboxError) as caught:
        check_backend(name)
    assert str(caught.value).endswith(f"got {name!r}; {advice}")


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["grpo", "sdpo"])
def test_two_steps_of_training_over_http(url, tmp_path, algorithm, capfd):
    from tests.tiny_model import make_tiny_model

    model = make_tiny_model(tmp_path / "tiny")
    words = ["train", algorithm, "--config", TINY, "--model_name_or_path", str(model)]
    words += ["--dataset", "embedded/train", "--max_completion_length", "16", "--max_steps", "2"]
    options = ["--runs_dir", str(tmp_path / "runs"), "--sandbox", url]
    # it runs in a child of the command
    result = CliRunner().invoke(main, [*words, *options])
    said = capfd.readouterr()
    assert result.exit_code == 0, said.err
    assert "step 2/2" in said.out + said.err
    stored = "".join(file.read_text() for file in (tmp_path / "runs").rglob("*.json*"))
    assert "process over http" in stored and TOKEN not in stored
