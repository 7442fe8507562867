"""The demo as processes: its policy is the same bytes each time, and a kill costs it nothing it had finished."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from sandbox.client import open_sandbox
from trainer.demo.policy import Recipe, warm_start

TINY = Recipe(n_problems=16, n_steps=1, batch_size=4)


def _contents(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


@pytest.mark.slow
def test_a_warm_start_leaves_nothing_where_it_is_interrupted_and_gives_the_same_bytes_again(
    tmp_path,
):
    class Stop(Exception):
        pass

    def stop(n):
        raise Stop

    with open_sandbox("process") as sandbox:
        first = warm_start(tmp_path / "a", TINY, sandbox)
        with pytest.raises(Stop):
            warm_start(tmp_path / "b", TINY, sandbox, progress=stop)
        assert not (tmp_path / "b" / TINY.key()).exists()
        again = warm_start(tmp_path / "b", TINY, sandbox)
    assert {"model.safetensors", "tokenizer.json", "taught.jsonl"} <= _contents(first).keys()
    assert _contents(first) == _contents(again)


def _demo(folder, *words):
    command = [sys.executable, "-m", "sdpo_bench", "demo", *words, "--short"]
    return [*command, "--dir", str(folder), "--sandbox", "process", "--save_steps", "1"]


def _finish(folder, *words):
    done = subprocess.run(_demo(folder, *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _ledger(folder):
    return json.loads((folder / "main" / "ledger.json").read_text())["runs"]


def _killed_once_begun(folder, part):
    """Run the demo until some part has made a checkpoint, then kill it with all it started."""
    process = subprocess.Popen(
        _demo(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        ledger = folder / "main" / "ledger.json"
        begun = ledger.is_file() and _ledger(folder).get(part)
        runs = folder / "main" / "runs"
        if begun and list(runs.glob(f"{begun['run_id']}/checkpoints/checkpoint-*")):
            break
        time.sleep(0.02)
    assert process.poll() is None, "the demo ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not _ledger(folder)[part]["finished"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.long
def test_a_demo_killed_in_a_run_goes_on_from_its_checkpoint_to_the_same_weights(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _finish(whole)
    shutil.copytree(whole / "policies", killed / "policies")  # the warm start once is enough
    _killed_once_begun(killed, "sdpo-42")

    before = _ledger(killed)
    text = _finish(killed)
    after = _ledger(killed)

    assert after["grpo-42"] == before["grpo-42"]
    assert [line for line in text.splitlines() if line.startswith("grpo-42")][0].endswith("before")
    assert after["sdpo-42"]["run_id"] == before["sdpo-42"]["run_id"]
    assert after["sdpo-42"]["finished"] and after["sdpo-42"]["seconds"] is None
    for part in ("grpo-42", "sdpo-42", "hybrid-42"):
        ours, theirs = (
            load_file(
                next(
                    (folder / "main" / "runs").glob(
                        f"{_ledger(folder)[part]['run_id']}/adapter/*.safetensors"
                    )
                )
            )
            for folder in (killed, whole)
        )
        assert ours.keys() == theirs.keys()
        assert all(bool((ours[name] == theirs[name]).all()) for name in ours), part
    assert (killed / "main" / "report.html").is_file()

    # once more: nothing is left to do, and a seed more repeats nothing
    text = _finish(killed, "--seeds", "42,43")
    assert text.count("done before") == 6
    assert _ledger(killed)["sdpo-43"]["finished"]
