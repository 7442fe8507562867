"""A run killed at any moment and resumed ends as if it had never been interrupted."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tests.scale import scaled
from tests.trainer.killing import bytes_in, check_same
from tests.trainer.outcomes import outcome
from trainer.endings.resume import (
    COMPLETE,
    MarkComplete,
    _mark,
    last_checkpoint,
    recall,
    unmark_after,
)
from trainer.options.config import ConfigError

STEPS = 4


def command(*arguments):
    return [sys.executable, "-m", "sdpo_bench", "train", *map(str, arguments)]


@pytest.fixture
def config(config_file):
    def write(runs):
        return config_file(
            max_steps=STEPS,
            save_strategy="steps",
            save_steps=1,
            save_total_limit=2,
            max_completion_length=8,
            runs_dir=str(runs),
        )

    return write


def killed_and_resumed(config, runs, *, wait_for):
    """Start a run, SIGKILL it when `wait_for(run_dir)` first holds, then resume until it ends."""
    process = subprocess.Popen(command("sdpo", "--config", config), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        found = [path for path in runs.glob("train-*") if (path / "experiment.json").exists()]
        if found and wait_for(found[0]):
            process.send_signal(signal.SIGKILL)
            break
        os.sched_yield()
    killed = process.wait() == -signal.SIGKILL
    (run_dir,) = runs.glob("train-*")
    subprocess.run(command("--resume", run_dir), check=True, stderr=subprocess.DEVNULL)
    return killed


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.long
def test_a_run_killed_at_its_first_checkpoint_and_at_random_moments_ends_as_if_it_had_not_been(
    config, tmp_path
):
    plain = tmp_path / "plain"
    subprocess.run(
        command("sdpo", "--config", config(plain)), check=True, stderr=subprocess.DEVNULL
    )
    expected = outcome(plain)
    assert len(expected[0]) == 8 * STEPS

    n_bytes = bytes_in(next(plain.glob("train-*")))
    runs = tmp_path / "killed"
    n_killed = killed_and_resumed(
        config(runs), runs, wait_for=lambda run_dir: last_checkpoint(run_dir) is not None
    )
    check_same(outcome(runs), expected)

    generator = random.Random(11)
    n_random = scaled(5)
    for attempt in range(n_random):
        runs = tmp_path / f"killed-{attempt}"
        # by bytes written: spread over the whole run, checkpoints included
        threshold = generator.uniform(0.05, 0.9) * n_bytes

        def far_enough(run_dir, threshold=threshold):
            return bytes_in(run_dir) > threshold

        n_killed += killed_and_resumed(config(runs), runs, wait_for=far_enough)
        check_same(outcome(runs), expected)
    assert n_killed > n_random / 2


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sigterm_to_the_command_saves_leaves_with_its_status_and_goes_on(config, tmp_path):
    runs = tmp_path / "runs"
    process = subprocess.Popen(command("sdpo", "--config", config(runs)))
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not any(runs.glob("train-*/checkpoints/*/complete")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=200) == 75
    (run_dir,) = runs.glob("train-*")
    assert last_checkpoint(run_dir) is not None and not (run_dir / "adapter").exists()
    assert subprocess.run(command("--resume", run_dir)).returncode == 0
    assert len(outcome(runs)[0]) == 8 * STEPS


def test_the_last_whole_checkpoint_by_its_number_is_used(tmp_path):
    for step, whole in ((9, True), (10, True), (11, False)):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if whole:
            (folder / COMPLETE).touch()
    assert last_checkpoint(tmp_path).name == "checkpoint-10"
    assert last_checkpoint(tmp_path / "checkpoints") is None


def test_one_that_was_interrupted_is_no_damage_and_alone_the_run_starts_again(tmp_path):
    (tmp_path / "checkpoints" / "checkpoint-5").mkdir(parents=True)
    lines = []
    assert last_checkpoint(tmp_path, say=lines.append) is None
    older = marked(tmp_path, 4)
    assert last_checkpoint(tmp_path, say=lines.append) == older and lines == []


def marked(run_dir, step):
    folder = run_dir / "checkpoints" / f"checkpoint-{step}"
    (folder / "inner").mkdir(parents=True)
    for name in ("adapter.safetensors", "inner/optimizer.pt", "README.md"):
        (folder / name).write_text(f"{name} of {step}")
    _mark(folder)
    return folder


DAMAGES = {
    "cut off": (
        lambda c: (c / "adapter.safetensors").write_text("a"),
        "adapter.safetensors whole, got 1 of 25 bytes",
    ),
    "a file is gone": (
        lambda c: (c / "inner/optimizer.pt").unlink(),
        "inner/optimizer.pt, got none",
    ),
    "a mark that is cut off": (
        lambda c: (c / COMPLETE).write_text((c / COMPLETE).read_text()[:20]),
        "a readable complete, got JSONDecodeError",
    ),
    "a mark of something else": (
        lambda c: (c / COMPLETE).write_text("[1]"),
        "a readable complete, got TypeError",
    ),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_checkpoint_that_is_not_whole_any_more_is_passed_over_and_never_taken_alone(
    tmp_path, damage, said
):
    older, newer = marked(tmp_path, 4), marked(tmp_path, 12)
    (newer / "README.md").write_text("a person's own words")
    assert last_checkpoint(tmp_path) == newer
    lines = []
    damage(newer)
    assert last_checkpoint(tmp_path, say=lines.append) == older
    assert lines == [f"checkpoint 12 is passed over: it must hold {said}"]
    shutil.rmtree(older)
    with pytest.raises(ConfigError, match=re.escape(f"must hold {said} in {newer}; restore it")):
        last_checkpoint(tmp_path)


def test_a_checkpoint_under_another_name_is_not_taken_for_a_later_step(tmp_path):
    older, newer = marked(tmp_path, 4), marked(tmp_path, 12)
    newer.rename(newer.with_name("checkpoint-20"))
    lines = []
    assert last_checkpoint(tmp_path, say=lines.append) == older
    assert lines == [
        "checkpoint 20 is passed over: it must hold the state of the step in its name, got that of step 12"
    ]


def test_what_a_full_disk_left_of_an_earlier_try_is_no_part_of_a_checkpoint(tmp_path):
    folder = marked(tmp_path, 4)
    (folder / f"{COMPLETE}.part").write_text("cut o")
    _mark(folder)
    assert last_checkpoint(tmp_path) == folder


def test_checkpoints_after_the_one_that_a_run_goes_on_from_count_no_more(tmp_path):
    folders = [marked(tmp_path, step) for step in (4, 12, 20)]
    unmark_after(tmp_path, 12)
    assert [(folder / COMPLETE).exists() for folder in folders] == [True, True, False]


def test_a_checkpoint_is_marked_once_all_of_it_is_on_disk(tmp_path, monkeypatch):
    checkpoint = tmp_path / "checkpoint-3"
    (checkpoint / "inner").mkdir(parents=True)
    for name in ("weights", "inner/state"):
        (checkpoint / name).write_text("x")
    synced = []
    fsync = os.fsync

    def watch(descriptor):
        assert not (checkpoint / COMPLETE).exists() or synced[-1] == f"{COMPLETE}.part"
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append(os.path.relpath(path, checkpoint))
        fsync(descriptor)

    monkeypatch.setattr("trainer.endings.resume.os.fsync", watch)
    monkeypatch.setattr(
        "trainer.endings.resume.PartialState", lambda: SimpleNamespace(wait_for_everyone=list)
    )
    asked = []

    def patience(work, what):
        asked.append(what)
        work()

    args = SimpleNamespace(output_dir=tmp_path)
    mark = MarkComplete(patience)
    mark.on_save(args, SimpleNamespace(global_step=3, is_world_process_zero=False), None)
    assert synced == [] and not (checkpoint / COMPLETE).exists()
    mark.on_save(args, SimpleNamespace(global_step=3, is_world_process_zero=True), None)
    assert sorted(synced[:2]) == ["inner/state", "weights"]
    assert synced[2:] == [f"{COMPLETE}.part", "."]
    assert (checkpoint / COMPLETE).exists() and asked == ["marking the checkpoint"]


def test_a_folder_that_is_no_training_run_is_named(tmp_path):
    with pytest.raises(ConfigError, match="must name the folder of a training run"):
        recall(tmp_path)
    for text in (json.dumps("cut off")[:-1], "[]", "{}", '{"algorithm": "sdpo", "config": "a: 1"}'):
        (tmp_path / "experiment.json").write_text(text)
        with pytest.raises(ConfigError, match="readable experiment.json"):
            recall(tmp_path)
