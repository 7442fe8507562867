"""What a machine must have for the GPU configurations: driver, torch's CUDA, card, packages, compiler."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from analysis.installation import install_command, package_command, torch_command
from evaluator.doctor.finding import Finding

GPU_MEMORY_BYTES = 10 << 30
"""Of the benchmark's card; what fits in less is said, as far as it was measured."""

OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
"""First part of the oldest Linux driver for each CUDA. Source: NVIDIA, CUDA Compatibility, minor versions."""
CUDA_OF_PYPI = 13
"""Of the locked torch as the package index has it for Linux; a build for CPUs is replaced by that one."""

EXTRA_OF = {"bitsandbytes": "train", "unsloth": "gpu"}
"""Which extra of pyproject.toml holds a package that is imported only on demand."""

UNSLOTH_ON_CPU = {"UNSLOTH_ALLOW_CPU": "1"}
"""Unsloth's own switch: without it, it refuses to be imported where there is no GPU."""

DRIVER_COMMAND = "sudo apt-get install nvidia-driver-580 && sudo reboot"
TOOLKIT_COMMAND = (
    "sudo apt-get install nvidia-container-toolkit && sudo nvidia-ctk runtime configure "
    "--runtime=docker && sudo systemctl restart docker"
)


def examine_gpu(*, needed: bool = False, image_has_gpu: bool = False) -> Iterator[Finding]:
    """Look at all that a GPU run needs, in the order in which it must be mended.

    A machine without a GPU is a failure where one is `needed`. With `image_has_gpu` a training image has the extra, so
    that it may be missing outside.
    """
    try:
        import torch
    except ModuleNotFoundError:
        return  # said where the packages are looked at

    seen = torch.cuda.is_available()
    has_tool = shutil.which("nvidia-smi") is not None
    if not has_tool and not seen:
        if needed:
            text = "a GPU must be there, got no NVIDIA driver (there is no nvidia-smi)"
            yield Finding("FAIL", text, DRIVER_COMMAND)
        else:
            text = "no NVIDIA driver: training runs on the CPU, with the configurations for it"
            yield Finding("note", text)
        return
    if has_tool:
        cards, problem = _cards()
        if problem is not None:
            yield problem
            return
        yield from map(_memory, cards)
        yield _driver(cards[0].driver, torch.version.cuda)
    yield _build(torch.__version__, torch.version.cuda, seen=seen)
    if seen:
        yield from _arch(torch.cuda.get_device_capability(), torch.cuda.get_arch_list())
    yield from _packages("note" if image_has_gpu and not needed else "FAIL")
    if (lacking := compiler_problem()) is not None:
        yield Finding("note" if image_has_gpu and not needed else "FAIL", lacking)
    else:
        yield Finding("ok", "Triton's C compiler and Python.h are there")
    if shutil.which("docker") is not None and shutil.which("nvidia-ctk") is None:
        text = "no NVIDIA container toolkit: containers cannot use the GPU"
        yield Finding("note", text, TOOLKIT_COMMAND)


def _run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, **options
    )


class _Card(NamedTuple):
    name: str
    memory: str
    """In MiB; some cards have none of their own and say so in words."""
    driver: str


def _cards() -> tuple[list[_Card], Finding | None]:
    """The cards that the driver names, or why it names none."""
    fields = "--query-gpu=name,memory.total,driver_version"
    try:
        done = _run(["nvidia-smi", fields, "--format=csv,noheader,nounits"], timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], _silent(str(error))
    rows = [line.rsplit(",", 2) for line in done.stdout.splitlines() if line.strip()]
    if done.returncode != 0 or not rows or any(len(row) != 3 for row in rows):
        return [], _silent(done.stdout + done.stderr)
    return [_Card(*map(str.strip, row)) for row in rows], None


def _silent(words: str) -> Finding:
    got = " ".join(words.split())[:200] or "nothing"
    return Finding("FAIL", f"the NVIDIA driver must answer, got {got}", DRIVER_COMMAND)


def _memory(card: _Card) -> Finding:
    if not card.memory.isdecimal():
        return Finding("note", f"{card.name}, memory {card.memory}, driver {card.driver}")
    mebibytes = int(card.memory)
    text = f"{card.name}, {mebibytes / 1024:.0f} GiB, driver {card.driver}"
    if mebibytes << 20 >= GPU_MEMORY_BYTES:
        return Finding("ok", text)
    text += "; under 10 GiB: take load_in_4bit and a smaller max_completion_length"
    return Finding("note", text)


def _driver(found: str, cuda: str | None) -> Finding:
    wanted = cuda or f"{CUDA_OF_PYPI}.0"
    oldest = OLDEST_DRIVER.get(int(wanted.split(".")[0]), max(OLDEST_DRIVER.values()))
    major = found.split(".")[0]
    if major.isdecimal() and int(major) >= oldest:
        return Finding("ok", f"driver {found} is new enough for CUDA {wanted}")
    text = f"the NVIDIA driver must be {oldest} or newer for torch's CUDA {wanted}, got {found}"
    return Finding("FAIL", text, DRIVER_COMMAND)


def _build(found: str, cuda: str | None, *, seen: bool) -> Finding:
    if seen:
        return Finding("ok", f"torch {found} sees the GPU, CUDA {cuda}")
    if cuda is None:
        text = f"torch must be a CUDA build, got {found}, which is for CPUs"
        return Finding("FAIL", text, torch_command())
    text = f"torch {found} (CUDA {cuda}) must see the GPU, got none"
    if Path("/.dockerenv").exists():
        return Finding("FAIL", f"{text}; start the container with --gpus all")
    return Finding("FAIL", f"{text}; unset CUDA_VISIBLE_DEVICES, mend the driver", DRIVER_COMMAND)


def _arch(capability: tuple[int, int], built_for: list[str]) -> Iterator[Finding]:
    """Whether torch's build has machine code for the card."""
    numbers = [int("".join(filter(str.isdigit, name))) for name in built_for if "sm_" in name]
    own = 10 * capability[0] + capability[1]
    if numbers and own < min(numbers):
        oldest = f"{min(numbers) // 10}.{min(numbers) % 10}"
        text = (
            f"the card's compute capability must be {oldest} or higher for this torch, got "
            f"{capability[0]}.{capability[1]}; take a newer card, or train on the CPU"
        )
        yield Finding("FAIL", text)


def _packages(missing_state: str) -> Iterator[Finding]:
    """Whether the extra is there and can be imported beside this torch."""
    lacking = [name for name in EXTRA_OF if find_spec(name) is None]
    for name in lacking:
        extra = EXTRA_OF[name]
        text = f"{name} of the extra {extra!r} must be installed, got none"
        yield Finding(missing_state, text, install_command(extra))
    for name in ("peft", *(name for name in EXTRA_OF if name not in lacking)):
        with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
            problem = import_problem(name, Path(folder))
        if problem is not None:
            mend = package_command("uninstall", "torchvision") if "torchvision" in problem else ""
            yield Finding("FAIL", problem, mend)


def import_problem(name: str, folder: Path) -> str | None:
    """Why a package cannot be imported, or None; `folder` takes what an import writes."""
    places = {"HOME": folder, "TMPDIR": folder, "UNSLOTH_COMPILE_LOCATION": folder / "unsloth"}
    env = {**os.environ, **UNSLOTH_ON_CPU, **{key: str(path) for key, path in places.items()}}
    done = _run([sys.executable, "-c", f"import {name}"], cwd=folder, env=env)
    if done.returncode == 0:
        return None
    said = " ".join((done.stderr.strip().splitlines() or ["nothing"])[-1].split())[:200]
    if "torchvision" in done.stderr:
        said += " (torchvision is of another torch's build)"
    return f"{name} must be importable beside this torch, got {said}"


def compiler_problem() -> str | None:
    """Why Triton could not compile its launcher here, or None: it looks for these, in this order."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return (
            "a C compiler must be there, Triton compiles a file when CUDA is first used, got none; "
            "sudo apt-get install gcc libc6-dev python3-dev"
        )
    include = sysconfig.get_config_var("INCLUDEPY")
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <Python.h>\n")
        try:
            done = _run(
                [*shlex.split(compiler), f"-I{include}", "-c", str(source), "-o", f"{source}.o"]
            )
        except OSError as error:
            return f"CC must name a C compiler, got {compiler!r} ({error.strerror}); unset CC"
    if done.returncode == 0:
        return None
    said = " ".join(done.stderr.split())[:200]
    return (
        f"{compiler} must compile against Python.h in {include}, got {said!r}; "
        "sudo apt-get install libc6-dev python3-dev"
    )
