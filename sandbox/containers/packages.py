"""Packages of Python in the sandbox's image: fetched on the host, copied in, named in what the image is called.

The default image has none. Nothing of a package runs while the image is built but the compiling of its files.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.containers.docker_backend import Engine, Image, build_context
from sandbox.guest.__main__ import PACKAGES
from sandbox.program import SandboxError

PACKAGES_LABEL = "sdpo-bench.packages"
_GLIBC_MINOR = range(17, 42)
"""Versions 2.17 to 2.41 of the C library, whose wheels a Debian of today can load."""
# One processor's worth of threads: a program may have few, and idle pools cost each of them its start.
_DOCKERFILE = """\
FROM {image}
COPY packages {target}
RUN ["python3", "-S", "-m", "compileall", "-q", "{target}"]
ENV OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
"""


def add_packages(client: Engine, image: Image, packages: Sequence[str]) -> tuple[Any, list[str]]:
    """Build an image with packages on top of `image`; return it and what it holds, as `name==version`.

    Raises:
        SandboxError: pip finds no wheels of them for the image's interpreter.
    """
    version, machine = _interpreter(client, image)
    with tempfile.TemporaryDirectory(prefix="sdpo-bench-packages-") as name:
        folder, dockerfile = Path(name) / "packages", Path(name) / "Dockerfile"
        _install(packages, folder, version=version, machine=machine)
        contents = versions(folder)
        dockerfile.write_text(_DOCKERFILE.format(image=image.id, target=PACKAGES))
        entries = [(file.name, file) for file in (folder, dockerfile)]
        built, _ = client.images.build(
            fileobj=build_context(entries, _owned_by_root),
            custom_context=True,
            labels={PACKAGES_LABEL: " ".join(contents)},
            rm=True,
        )
    return built, contents


def versions(folder: Path) -> list[str]:
    """Return the packages installed in a folder, as `name==version`, sorted."""
    found = importlib.metadata.distributions(path=[str(folder)])
    return sorted(f"{entry.name}=={entry.version}" for entry in found)


def tag_of(contents: Sequence[str]) -> str:
    """Return packages as the tag of an image can hold them: `numpy-2.4.6`."""
    text = "_".join(contents).replace("==", "-")
    return re.sub(r"[^A-Za-z0-9_.-]", ".", text)[:100]


def _interpreter(client: Engine, image: Image) -> tuple[str, str]:
    """The version of the image's Python, e.g. 3.13, and the machine it is for."""
    said = client.containers.run(
        image.id,
        ["-S", "-c", "import platform as p; print(p.python_version(), p.machine())"],
        entrypoint=["python3"],
        network_mode="none",
        remove=True,
    )
    version, machine = said.decode().split()
    return ".".join(version.split(".")[:2]), machine


def _install(packages: Sequence[str], folder: Path, *, version: str, machine: str) -> None:
    if importlib.util.find_spec("pip") is None:
        raise SandboxError(
            f"pip must be there to fetch {', '.join(packages)}, got none in this environment; "
            f"{sys.executable} -m ensurepip"
        )
    # Wheels only: building from source would run the package's own code here.
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
    command += ["--only-binary=:all:", "--no-compile", "--implementation", "cp"]
    command += ["--python-version", version]
    command += [f"--platform=manylinux_2_{minor}_{machine}" for minor in reversed(_GLIBC_MINOR)]
    command += [f"--platform=manylinux2014_{machine}", "--", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise SandboxError(
            f"pip must find wheels of {', '.join(packages)} for Python {version} on {machine}, "
            f"got {' '.join(lines)[-300:]!r}; check the names"
        )


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    # The folder for temporary files is its maker's alone; programs have users of their own.
    entry.mode |= 0o555 if entry.isdir() else 0o444
    return entry
