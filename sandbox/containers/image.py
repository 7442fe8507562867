"""Builds the sandbox's image: from a registry's Python, or from Debian packages where there is none."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.containers.docker_backend import (
    IMAGE,
    SOURCE_LABEL,
    Engine,
    build_context,
    engine,
    find_image,
    pull_image,
)
from sandbox.containers.packages import add_packages, tag_of
from sandbox.program import SandboxError

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = "Dockerfile.sandbox"
DEBIAN_BASE = "localhost/sdpo-bench-base"
"""Without a host in its name Podman would ask a registry for it; and it imports nothing but `latest`."""
_SUITES = {"trixie": "3.13", "bookworm": "3.11"}
"""Suites of Debian with their Python, the wanted one first: it is the Dockerfile's own version."""
_BASE_FOR_PACKAGES, _LIBRARIES_FOR_PACKAGES = "-packages", ",libstdc++6,libgomp1"
"""What wheels expect of a system (manylinux) and a bare interpreter lacks."""


def dockerfile() -> Path:
    """Return the Dockerfile: in a checkout it stands beside the packages, in a wheel within this one."""
    within = ROOT / "sandbox" / DOCKERFILE
    path = within if within.is_file() else ROOT / DOCKERFILE
    if not path.is_file():
        raise SandboxError(f"{DOCKERFILE} must be in {ROOT}, got none; install sdpo-bench again")
    return path


def _entering() -> list[tuple[str, Path]]:
    """All that enters the image, under its name in the build context: the same from a checkout and a wheel."""
    return [(DOCKERFILE, dockerfile()), *((str(file), ROOT / file) for file in copied_files())]


def copied_files() -> list[Path]:
    """Return what Dockerfile.sandbox copies, relative to the root, in order."""
    sources = re.findall(r"^COPY\s+(\S+)\s+\S+$", dockerfile().read_text(), re.MULTILINE)
    files: list[Path] = []
    for source in sources:
        path = ROOT / source
        found = [path] if path.is_file() else sorted(path.rglob("*.py"))
        files += [file.relative_to(ROOT) for file in found]
    return files


def source_digest() -> str:
    """Return the sha256 of all that enters the image."""
    digest = hashlib.sha256()
    for name, file in _entering():
        digest.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def default_base() -> str:
    """Return the base image that Dockerfile.sandbox names."""
    match = re.search(r"^ARG BASE_IMAGE=(\S+)$", dockerfile().read_text(), re.MULTILINE)
    if match is None:
        raise SandboxError("Dockerfile.sandbox must have a line `ARG BASE_IMAGE=...`, got none")
    return match[1]


def _tag() -> str:
    """The image's name; two checkouts with different guests each have their own."""
    return f"{IMAGE}:{source_digest()[:12]}"


def build(
    *, base_image: str | None, packages: Sequence[str] = (), say: Callable[[str], None]
) -> str:
    """Build the image that clients use from now on, and return its id.

    Args:
        base_image: with a python3 of 3.11 or later in it; None: the Dockerfile's default, or Debian packages
            where no registry answers.
        packages: of Python that programs may import, as pip names them; none by default.
        say: takes one line about what is done.

    Raises:
        SandboxError: no engine, no base, no such packages, or the build fails.
    """
    with engine(timeout_s=600) as client:
        base = _choose_base(client, base_image, say, _BASE_FOR_PACKAGES if packages else "")
        say(f"building the image on {base}")
        image, _ = client.images.build(
            fileobj=build_context(_entering()),
            custom_context=True,
            dockerfile=DOCKERFILE,
            buildargs={"BASE_IMAGE": base},
            labels={SOURCE_LABEL: source_digest()},
            tag=f"{_tag()}-bare{_BASE_FOR_PACKAGES if packages else ''}",
            rm=True,
        )
        if packages:
            say(f"fetching wheels of {', '.join(packages)} with pip")
            image, contents = add_packages(client, image, packages)
            tag = f"{source_digest()[:12]}-{tag_of(contents)}"
            image.tag(IMAGE, tag)
            say(f"{IMAGE}:{tag} holds {', '.join(contents)}")
        for tag in (source_digest()[:12], "latest"):
            image.tag(IMAGE, tag)
        return str(image.id)


def _choose_base(client: Engine, wanted: str | None, say: Callable[[str], None], kind: str) -> str:
    name = wanted or default_base()
    if find_image(client, name) is not None or pull_image(client, name) is not None:
        return name
    if wanted is not None:
        raise SandboxError(
            f"the base image must be there or in a registry, got {wanted!r}; name another, or none to "
            "build one from Debian packages"
        )
    for suite in _SUITES:
        before = f"{DEBIAN_BASE}-{suite}{kind}"
        if find_image(client, before) is not None:
            say(f"no registry has {name}: using {before}, built from Debian before")
            return before
    say(
        f"no registry has {name}: building {DEBIAN_BASE}{kind} from Debian packages with mmdebstrap"
    )
    return _build_debian_base(client, kind)


def _build_debian_base(client: Engine, kind: str) -> str:
    """Import a base of the first suite that this machine's mirror and keys can build; return its name."""
    if shutil.which("mmdebstrap") is None:
        raise SandboxError(
            "mmdebstrap must be installed to build a base without a registry, got none; "
            "`apt-get install mmdebstrap`, or give --base-image"
        )
    said = ""
    for suite in _SUITES:
        with tempfile.TemporaryDirectory(prefix="sdpo-bench-base-") as folder:
            tarball = Path(folder) / "base.tar"
            done = subprocess.run(
                _debian_command(suite, tarball, kind), capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                base = f"{DEBIAN_BASE}-{suite}{kind}"
                client.api.import_image(src=str(tarball), repository=base, tag="latest")
                return base
            said = f"status {done.returncode}: {done.stderr.strip()[-300:]!r}"
    raise SandboxError(f"mmdebstrap must succeed, got {said}")


def _debian_command(suite: str, tarball: Path, kind: str) -> list[str]:
    """An interpreter, its library and what they link to; no shell.

    The `extract` variant runs no customize hooks, so what is left to do is an extract hook; and it does not
    merge /lib into /usr/lib, where newer suites keep the loader.
    """
    python = f"python{_SUITES[suite]}"
    hook = (
        'for d in lib lib64 bin sbin; do [ -e "$1/$d" ] || ln -s "usr/$d" "$1/$d"; done; '
        f'chroot "$1" /usr/bin/{python} -m compileall -q /usr/lib/{python}; '
        f'ln -sf {python} "$1/usr/bin/python3"; mkdir -p "$1/tmp" "$1/run/sandbox"; chmod 0755 "$1/tmp"; '
        'rm -rf "$1/usr/share/doc" "$1/usr/share/locale" "$1/usr/share/man" "$1/var/cache" '
        '"$1/var/lib/apt" "$1/var/log"'
    )
    return [
        "mmdebstrap",
        "--variant=extract",
        f"--include={python},lib{python}-stdlib{_LIBRARIES_FOR_PACKAGES if kind else ''}",
        f"--extract-hook={hook}",
        suite,
        str(tarball),
    ]


def find_current() -> str | None:
    """Return the id of the image that was built last from the guest as it is; None where there is none.

    Raises:
        SandboxError: no engine.
    """
    with engine() as client:
        image = find_image(client, _tag())
    return None if image is None else str(image.id)


def current_image() -> str:
    """Return the id of the image that was built last from the guest as it is.

    Raises:
        SandboxError: no engine, no image, or one of another guest.
    """
    image = find_current()
    if image is None:
        with engine() as client:
            older = find_image(client, IMAGE) is not None
        found = "one of another guest" if older else "none"
        raise SandboxError(
            f"the image {_tag()} must be built, got {found}; run `sdpo-bench sandbox build`"
        )
    return image
