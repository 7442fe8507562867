"""Builds the training image; with --wheels DIR from a folder of wheels, without a network.

    python3 scripts/train_image.py [--wheels DIR] [--base-image NAME] [--extras gpu] [--tag NAME]

Without a registry, `--debian-base` makes a base of Debian packages with mmdebstrap first. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "sdpo-bench-train"
LABEL = "sdpo-bench.source"
"""Holds the digest of the sources, so that an image of other sources is noticed."""
EXTRAS_LABEL = "sdpo-bench.extras"
"""Holds the extras that were named, so that an image without `gpu` is noticed on a machine with one."""
DEBIAN_BASE = "localhost/sdpo-bench-train-base"
SOURCES = (
    "Dockerfile.train Dockerfile.sandbox requirements.lock pyproject.toml sdpo_bench.py "
    "analysis benchmarks configs evaluator sandbox scripts trainer"
).split()
TEXTS = ("README.md", "LICENSE")
"""Copied as well, for the package's metadata; an image with older ones is as good."""


def main() -> None:
    """Build, and exit as the engine did."""
    parser = argparse.ArgumentParser(description="Build the training image.")
    parser.add_argument("--wheels", type=Path, help="folder with a wheel of every locked package")
    parser.add_argument(
        "--base-image", default="", help="base with Python 3.11 or newer; default: the Dockerfile's"
    )
    parser.add_argument(
        "--extras", default="", help="extras of pyproject.toml beside the locked packages"
    )
    parser.add_argument(
        "--debian-base", action="store_true", help="make the base of this machine's Debian packages"
    )
    parser.add_argument("--tag", default=IMAGE, help="name of the image; default: %(default)s")
    options = parser.parse_args()
    if shutil.which("docker") is None:
        sys.exit("docker must be installed to build an image, got no such command; install Docker")
    if options.wheels is not None and not any(options.wheels.glob("*.whl")):
        sys.exit(
            f"--wheels must name a folder of wheels, got none in {options.wheels}; pip download them there"
        )
    base = _debian_base(options.extras) if options.debian_base else options.base_image
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".image-") as folder:
        _context(Path(folder), options.wheels)
        command = ["docker", "build", "--file", f"{folder}/Dockerfile.train", "--tag", options.tag]
        command += ["--build-arg", f"EXTRAS={options.extras}"]
        command += ["--label", f"{LABEL}={source_digest()}"]
        command += ["--label", f"{EXTRAS_LABEL}={options.extras}"]
        if base:
            command += ["--build-arg", f"BASE_IMAGE={base}"]
        if options.wheels is not None:
            command += ["--network", "none", "--build-arg", "PIP_OPTIONS=--no-index --find-links ."]
        sys.exit(subprocess.run([*command, folder], check=False).returncode)


def source_digest() -> str:
    """Return the sha256 of all that enters the image from the checkout."""
    digest = hashlib.sha256()
    for name in SOURCES:
        top = ROOT / name
        files = sorted(top.rglob("*")) if top.is_dir() else [top]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _context(folder: Path, wheels: Path | None) -> None:
    """Lay out exactly what the Dockerfile copies."""
    for name in (*SOURCES, *TEXTS):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    if wheels is not None:
        (folder / "wheels").mkdir()
        for wheel in wheels.glob("*.whl"):
            try:
                os.link(wheel, folder / "wheels" / wheel.name)
            except OSError:  # another file system
                shutil.copy(wheel, folder / "wheels" / wheel.name)


def _debian_base(extras: str) -> str:
    """Import a base of the running Debian's Python, with a compiler for the extra `gpu`; return its name."""
    if shutil.which("mmdebstrap") is None:
        sys.exit(
            "mmdebstrap must be installed for a base of Debian packages, got none; apt-get install mmdebstrap"
        )
    with tempfile.TemporaryDirectory(prefix="sdpo-bench-base-") as folder:
        tarball = f"{folder}/base.tar"
        packages = "python3,python3-venv,libgomp1,ca-certificates"
        if "gpu" in extras:
            packages += ",gcc,libc6-dev,python3-dev"
        command = ["mmdebstrap", "--variant=minbase", f"--include={packages}"]
        for step in ([*command, _suite(), tarball], ["docker", "import", tarball, DEBIAN_BASE]):
            if subprocess.run(step, check=False).returncode != 0:
                sys.exit(
                    f"{step[0]} must make a base of Debian packages, and did not; its words are above"
                )
    return DEBIAN_BASE


def _suite() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next((x.split("=")[1] for x in lines if x.startswith("VERSION_CODENAME=")), "bookworm")


if __name__ == "__main__":
    main()
