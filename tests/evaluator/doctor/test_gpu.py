"""What `doctor` and `gpu_check` say of machines that this one is not: each is a fake driver and a fake torch."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from analysis import installation
from evaluator.doctor import gpu as doctor_gpu
from evaluator.doctor.gpu import examine_gpu

ROOT = Path(__file__).parents[3]
RTX = "NVIDIA GeForce RTX 3080, 10240, {}"


def command(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


WITH_LOCK = r"-m pip install --constraint \S+/requirements.lock --editable '?\S+\[gpu\]'?$"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Sets a machine up: what nvidia-smi says, torch's CUDA, whether torch sees the card, what is installed."""
    import torch

    def set_up(
        said=None, *, status=0, cuda="13.0", seen=True, capability=(8, 6), installed=True, cc=True
    ):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CC", raising=False)
        if said is not None:
            command(tmp_path / "nvidia-smi", f"printf '%s\\n' '{said}'; exit {status}")
        if cc:
            command(tmp_path / "gcc", "exit 0")
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_86", "sm_120"])
        monkeypatch.setattr(doctor_gpu, "find_spec", lambda name: object() if installed else None)
        monkeypatch.setattr(doctor_gpu, "import_problem", lambda name, folder: None)

    return set_up


def failures(**options):
    return [finding for finding in examine_gpu(**options) if finding.state == "FAIL"]


def test_the_benchmarks_card_with_all_it_needs_has_no_failure(machine):
    machine(RTX.format("580.95.05"))
    found = list(examine_gpu(needed=True))
    assert [x for x in found if x.state == "FAIL"] == []
    assert "RTX 3080, 10 GiB, driver 580.95.05" in found[0].text


def test_without_a_driver_the_cpu_is_taken_unless_a_gpu_is_needed(machine):
    machine(seen=False, cc=False)
    assert [x.state for x in examine_gpu()] == ["note"]
    (needed,) = failures(needed=True)
    assert "no NVIDIA driver" in needed.text and "nvidia-driver-580" in needed.mend


@pytest.mark.parametrize(
    ("driver", "cuda", "oldest"),
    [
        ("570.133.20", "13.0", 580),
        ("535.54", None, 580),
        ("579", "13.2", 580),
        ("520.1", "12.8", 525),
        ("575.51", "14.0", 580),
        ("unknown", "13.0", 580),
    ],
)
def test_a_driver_older_than_torchs_cuda_is_a_failure_that_names_the_oldest(
    machine, driver, cuda, oldest
):
    machine(RTX.format(driver), cuda=cuda, seen=False)
    first = failures()[0]
    assert f"must be {oldest} or newer" in first.text and first.text.endswith(f"got {driver}")
    assert "nvidia-driver-580" in first.mend


@pytest.mark.parametrize(
    ("driver", "cuda"), [("580.1", "13.0"), ("610.2", "13.0"), ("535", "12.8")]
)
def test_a_driver_that_is_new_enough_is_none(machine, driver, cuda):
    machine(RTX.format(driver), cuda=cuda)
    assert failures(needed=True) == []


@pytest.mark.parametrize(
    "said", ["No devices were found", "NVIDIA-SMI has failed, the driver is not loaded", ""]
)
@pytest.mark.parametrize("status", [0, 9])
def test_a_driver_that_names_no_card_is_one_line(machine, said, status):
    machine(said, status=status, seen=False)
    (found,) = failures()
    assert "driver must answer" in found.text and "\n" not in found.text


def test_a_torch_for_cpus_is_named_with_the_command_that_replaces_it(machine):
    machine(RTX.format("580.1"), cuda=None, seen=False)
    (found,) = failures()
    assert "must be a CUDA build" in found.text
    assert re.search(r"--force-reinstall --constraint \S+requirements.lock torch$", found.mend)


def test_a_cuda_build_that_sees_no_card_is_a_failure(machine):
    machine(RTX.format("580.1"), seen=False)
    (found,) = failures()
    assert "(CUDA 13.0) must see the GPU" in found.text


def test_a_card_older_than_torchs_machine_code_is_a_failure(machine):
    machine("NVIDIA GeForce GTX 1080, 8192, 580.1", capability=(6, 1))
    (found,) = failures()
    assert "must be 7.5 or higher" in found.text and "got 6.1" in found.text


def test_a_small_card_and_one_without_memory_of_its_own_are_told(machine):
    machine("Tiny Card, 6144, 580.1")
    assert "load_in_4bit" in next(examine_gpu()).text
    machine("Shared, Inc. Card, [N/A], 580.1")
    first = next(examine_gpu())
    assert first.state == "note" and first.text.startswith("Shared, Inc. Card, memory [N/A]")


def test_the_missing_extra_is_named_with_the_command_that_leaves_torch_where_it_is(machine):
    machine(RTX.format("580.1"), installed=False)
    found = next(x for x in failures() if "unsloth" in x.text)
    assert "extra 'gpu'" in found.text
    assert re.search(WITH_LOCK, found.mend)


def test_the_extra_may_be_missing_where_the_training_image_has_it(machine):
    machine(RTX.format("580.1"), installed=False)
    assert failures(image_has_gpu=True) == []
    assert failures(image_has_gpu=True, needed=True) != []


def test_the_extras_that_are_named_hold_the_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert any(line.startswith("unsloth") for line in extras[doctor_gpu.EXTRA_OF["unsloth"]])
    assert any(line.startswith("bitsandbytes") for line in extras["train"] + extras["gpu"])


def test_without_a_compiler_it_says_what_to_install(machine):
    machine(RTX.format("580.1"), cc=False)
    (found,) = failures()
    assert "a C compiler must be there" in found.text and "apt-get install gcc" in found.text


def test_a_compiler_without_pythons_headers_is_told_apart(machine, tmp_path):
    machine(RTX.format("580.1"))
    command(tmp_path / "gcc", "echo 'fatal error: Python.h: No such file' >&2; exit 1")
    (found,) = failures()
    assert "Python.h: No such file" in found.text and "python3-dev" in found.text


def test_a_cc_variable_that_names_nothing_is_one_line(monkeypatch):
    monkeypatch.setenv("CC", "/no/such/cc -m64")
    assert "CC must name a C compiler" in doctor_gpu.compiler_problem()


def test_a_package_that_cannot_be_imported_is_named_with_its_last_word(tmp_path, monkeypatch):
    (tmp_path / "broken_here.py").write_text(
        "raise RuntimeError('operator torchvision::nms is no')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    problem = doctor_gpu.import_problem("broken_here", tmp_path)
    assert problem.startswith("broken_here must be importable") and "torchvision" in problem
    assert doctor_gpu.import_problem("json", tmp_path) is None


def test_the_command_that_installs_the_extra_is_one_that_pip_understands():
    """As far as its options: nothing is installed."""
    command = installation.install_command("gpu").replace(
        "--editable", "--no-deps --dry-run --help --editable"
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Install Options" in done.stdout
