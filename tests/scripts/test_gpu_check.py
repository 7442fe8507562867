import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import gpu_check


def plan(tmp_path, **changes):
    options = {"model": "M", "device": "cuda", "tiny": False, "steps": 2, "folder": tmp_path}
    return gpu_check.Plan(**(options | changes))


def fine(part, limit_s, done):
    part.state, part.said = "ok", f"{len(done)} before"


def broken(part, limit_s, done):
    raise subprocess.CalledProcessError(3, "x", stderr="Traceback\nValueError: no such thing\n")


def slow(part, limit_s, done):
    raise subprocess.TimeoutExpired("x", limit_s)


def check(monkeypatch, tmp_path, parts, seconds=100.0):
    monkeypatch.setattr(gpu_check, "_parts", lambda _: iter(parts))
    return list(gpu_check.check(plan(tmp_path), seconds=seconds, only=(), say=lambda _: None))


def garbled(part, limit_s, done):
    json.loads("no JSON")


def test_a_part_that_fails_or_hangs_is_named_and_the_others_go_on(monkeypatch, tmp_path):
    todo = [("a", fine), ("b", broken), ("c", slow), ("d", garbled), ("e", fine)]
    parts = check(monkeypatch, tmp_path, todo)
    assert [part.state for part in parts] == ["ok", "failed", "failed", "failed", "ok"]
    assert "JSONDecodeError" in parts[3].said
    assert (
        parts[1].said == "status 3: ValueError: no such thing"
        and "not done within" in parts[2].said
    )


def test_parts_for_which_no_time_is_left_are_not_run(monkeypatch, tmp_path):
    parts = check(monkeypatch, tmp_path, [("a", fine)], seconds=0.5)
    assert parts[0].state == "not run" and parts[0].said == "no time was left"


def test_no_part_may_take_the_time_of_all(monkeypatch, tmp_path):
    limits = []
    parts = [(str(n), lambda part, limit_s, done: limits.append(limit_s)) for n in range(12)]
    check(monkeypatch, tmp_path, parts, seconds=480.0)
    assert limits[0] == pytest.approx(120, abs=1) and max(limits) <= 480


@pytest.mark.parametrize("algorithm", ["grpo", "sdpo", "hybrid", "audit"])
def test_on_a_gpu_the_benchmarks_own_configuration_is_what_runs(tmp_path, algorithm):
    words = gpu_check.train_options(plan(tmp_path), algorithm)
    assert words[:2] == ["--config", str(gpu_check.ROOT / "configs" / f"{algorithm}.yaml")]
    assert words[2:] == (["--use_cpu", "false"] if algorithm == "audit" else [])


@pytest.mark.parametrize("way", ["4bit", "unsloth"])
def test_on_a_gpu_no_way_to_load_is_skipped(tmp_path, monkeypatch, way):
    """What is missing there fails: a check that leaves out the configuration's own way says nothing."""

    def missing(plan, limit_s, *words):
        raise subprocess.CalledProcessError(1, "x", stderr="ModelError: no package\n")

    monkeypatch.setattr(gpu_check, "_python", missing)
    monkeypatch.setattr(
        gpu_check, "_parts", lambda p: iter([(way, lambda a, b, _: gpu_check._load(a, p, way, b))])
    )
    (part,) = gpu_check.check(plan(tmp_path), seconds=100, only=(), say=lambda _: None)
    assert part.state == "failed" and "no package" in part.said


def test_the_ratio_needs_both_runs(tmp_path):
    grpo = gpu_check.Part("train grpo", figures={"step_s": 2.0})
    sdpo = gpu_check.Part("train sdpo", figures={"step_s": 2.4})
    part = gpu_check.Part("ratio")
    gpu_check._ratio(part, [grpo, sdpo])
    assert part.figures["ratio"] == pytest.approx(1.2) and "within" in part.said
    gpu_check._ratio(part, [grpo])
    assert part.state == "skipped"


def test_a_table_cell_cannot_break_the_table():
    rows = gpu_check.table([gpu_check.Part("a", said="x | y")]).splitlines()
    assert rows[-1].count("|") == 5


def test_exactly_one_of_model_and_tiny_is_wanted():
    run = CliRunner().invoke(gpu_check.main, [])
    assert run.exit_code == 2 and "--tiny" in run.output


def run_check(tmp_path, *words):
    return CliRunner().invoke(gpu_check.main, ["--model", str(tmp_path), *words])


def test_a_machine_without_a_driver_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    run = run_check(tmp_path)
    assert run.exit_code == 1
    (line,) = run.output.splitlines()
    assert line.startswith("Error: a GPU must be there, got no NVIDIA driver")
    assert "apt-get install nvidia-driver-580" in line


@pytest.fixture
def faked_gpu(monkeypatch):
    """A card that torch sees, without the extra."""
    import torch

    from evaluator.doctor import gpu as doctor_gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card")
    monkeypatch.setattr(doctor_gpu, "import_problem", lambda name, folder: None)
    monkeypatch.setattr(doctor_gpu, "find_spec", lambda name: None)


def test_on_a_machine_with_a_gpu_and_without_the_extra_it_fails_and_says_how_to_install_it(
    tmp_path, faked_gpu
):
    run = run_check(tmp_path)
    assert run.exit_code == 1 and not (tmp_path / "check.json").exists()
    line = next(line for line in run.output.splitlines() if "unsloth" in line)
    assert "extra 'gpu'" in line
    assert re.search(
        r"-m pip install --constraint \S+/requirements.lock --editable '?\S+\[gpu\]", line
    )


def test_the_environment_part_runs_and_is_written(tmp_path):
    out = tmp_path / "check.json"
    run = CliRunner().invoke(
        gpu_check.main, ["--device", "cpu", "--tiny", "--part", "environment", "--output", str(out)]
    )
    assert run.exit_code == 0, run.output
    (part,) = json.loads(out.read_text())["parts"]
    assert part["state"] == "ok" and part["figures"]["torch"]
