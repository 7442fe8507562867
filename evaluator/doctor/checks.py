"""Checks what this machine has for training and evaluation, and names the command that adds what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from analysis.installation import install_command, make_command
from evaluator.doctor.finding import Finding
from evaluator.doctor.gpu import examine_gpu
from evaluator.problems.mbpp import load_problems
from evaluator.problems.problem import DatasetError
from sandbox import doctor as sandbox_doctor

_GIB = 1 << 30
FREE_DISK_BYTES = 5 * _GIB
FREE_MEMORY_BYTES = 4 * _GIB
EXTRAS_LABEL = "sdpo-bench.extras"
"""Of the training image: the extras it was built with (scripts/train_image.py)."""


def examine(*, mbpp_dir: Path | None, runs_dir: Path) -> Iterator[Finding]:
    """Look at everything, the quick things first."""
    yield _python()
    yield from _packages()
    yield from examine_gpu(image_has_gpu="gpu" in (_image_extras() or ""))
    yield from _room(runs_dir)
    yield _writable(runs_dir)
    yield from _data(mbpp_dir)
    yield _model_cache()
    yield from _sandbox()
    if (make := make_command("train-image")) is not None:  # it is built from a checkout
        yield _train_image(make)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("ok" if sys.version_info >= (3, 11) else "FAIL", f"Python {found}")


def _packages() -> Iterator[Finding]:
    for name, extra in (("torch", "train"), ("trl", "train"), ("altair", "charts")):
        try:
            yield Finding("ok", f"{name} {version(name)}")
        except PackageNotFoundError:
            mend = make_command("setup") or install_command(extra)
            yield Finding("FAIL", f"{name} must be installed, got none", mend)


def _room(runs_dir: Path) -> Iterator[Finding]:
    there = next(
        path for path in (runs_dir.resolve(), *runs_dir.resolve().parents) if path.is_dir()
    )
    free = shutil.disk_usage(there).free
    text = f"{free / _GIB:.0f} GiB free on the disk of {runs_dir}"
    yield Finding("ok" if free >= FREE_DISK_BYTES else "FAIL", text, "make room, or set --runs-dir")
    available = _available_memory_bytes()
    text = f"{available / _GIB:.0f} GiB of memory available"
    yield Finding("ok" if available >= FREE_MEMORY_BYTES else "note", text)


def _available_memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _writable(runs_dir: Path) -> Finding:
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        probe = runs_dir / f".doctor-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        text = f"{runs_dir} must take files, got {error.strerror}"
        return Finding("FAIL", text, f"chown $(id -u) {runs_dir}, or set --runs-dir")
    return Finding("ok", f"{runs_dir} takes files")


def _data(mbpp_dir: Path | None) -> Iterator[Finding]:
    for name in ("full/all", "sanitized/all"):
        try:
            problems = load_problems(name, mbpp_dir=mbpp_dir)
        except DatasetError as error:
            text = f"MBPP {name}: {error}; `--dataset embedded/test` works without"
            yield Finding("note", text, "set MBPP_DIR to the folder with its two files")
        else:
            yield Finding("ok", f"MBPP {name}: {len(problems.problems)} problems, sha256 as pinned")


def _model_cache() -> Finding:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    models = sorted(path.name[8:].replace("--", "/") for path in home.glob("hub/models--*"))
    if not models:
        return Finding(
            "note", f"no model in {home}; one is fetched at its first use, or name a folder"
        )
    return Finding("ok", f"models in {home}: {', '.join(models)}")


def _sandbox() -> Iterator[Finding]:
    for check in sandbox_doctor.examine():
        state = "ok" if check.ok else "FAIL" if check.needed else "note"
        mend = "sdpo-bench sandbox build" if state == "FAIL" and "image" in check.text else ""
        yield Finding(state, f"sandbox: {check.text}", mend)


def _train_image(make: str) -> Finding:
    extras = _image_extras()
    if extras is None:
        text = "no training image: make targets run on this machine"
        return Finding("note", text, make)
    return Finding("ok", f"the training image is built{f', with {extras}' if extras else ''}")


def _image_extras() -> str | None:
    if shutil.which("docker") is None:
        return None
    form = f'{{{{index .Config.Labels "{EXTRAS_LABEL}"}}}}'
    asked = ["docker", "image", "inspect", "--format", form, "sdpo-bench-train"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
