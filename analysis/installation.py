"""How this project was installed: as a checkout or from a wheel; the commands that mend what is missing there.

A printed remedy must work where the reader stands. A checkout has its lock and its Makefile, whatever the current
folder. A wheel is on no index, so its extra is installed as the packages that it names.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path

DISTRIBUTION = "sdpo-bench"
_IMPORTED_AS = {"pyyaml": "yaml", "vl-convert-python": "vl_convert"}
"""Packages whose import name is not their own name with `_` for `-`."""


def checkout() -> Path | None:
    """Return the root of the checkout that these modules are part of; None where they are installed."""
    root = next(p for p in Path(__file__).resolve().parents if (p / "sdpo_bench.py").is_file())
    return root if (root / "requirements.lock").is_file() else None


def own_command(*words: str) -> list[str]:
    """Return `sdpo-bench WORDS` as a child of this interpreter is given it.

    -P keeps the current folder off the child's path: a user's own trainer.py there is not imported for ours.
    """
    return [sys.executable, "-P", "-m", "sdpo_bench", *words]


def install_command(extra: str) -> str:
    """Return the command that adds an extra to this installation; the empty one is what every command needs.

    In a checkout no locked package is moved: without the lock torch would be.
    """
    root = checkout()
    if root is not None:
        lock = shlex.quote(str(root / "requirements.lock"))
        project = shlex.quote(f"{root}[{extra}]" if extra else str(root))
        return f"{_installer()} --constraint {lock} --editable {project}"
    return f"{_installer()} {' '.join(map(shlex.quote, requirements(extra)))}"


def package_command(verb: str, package: str) -> str:
    """Return the command that installs or uninstalls one package in this environment."""
    return f"{_installer(verb)} {shlex.quote(package)}"


def make_command(target: str) -> str | None:
    """Return the command that makes a target of the checkout, from wherever the user stands; None in a wheel."""
    root = checkout()
    if root is None:
        return None
    return f"make {target}" if Path.cwd() == root else f"make -C {shlex.quote(str(root))} {target}"


def torch_command() -> str:
    """Return the command that puts the package index's CUDA build in the place of another build."""
    root = checkout()
    if root is not None:
        lock = shlex.quote(str(root / "requirements.lock"))
        return f"{_installer()} --force-reinstall --constraint {lock} torch"
    wanted = next(name for name in requirements("train") if name.startswith("torch"))
    return f"{_installer()} --force-reinstall {shlex.quote(wanted)}"


def requirements(extra: str) -> list[str]:
    """Return what an extra asks for, as a package installer reads it; `gpu` stands on `train`."""
    found = _of_extras().get(extra, [])
    return [*_of_extras().get("train", []), *found] if extra == "gpu" else found


def extra_of(module: str) -> str | None:
    """Return the extra that brings a module, by its import name; None where it is no extra's.

    A package that only another one brings (`tokenizers` by transformers) is no extra's.
    """
    name = module.partition(".")[0]
    for extra, wanted in _of_extras().items():
        if name in {_import_name(text) for text in wanted}:
            return extra
    return None


def missing(module: str) -> str:
    """Return the line for a package that is not installed: what needs it, and the command that brings it."""
    extra = extra_of(module)
    if extra:
        return (
            f"the extra {extra!r} must be installed for this, got no package {module!r}; "
            f"{install_command(extra)}"
        )
    return f"the package {module!r} must be installed, got none; {install_command('')}"


def _of_extras() -> dict[str, list[str]]:
    """Requirements by extra; those of every installation under the empty name."""
    found: dict[str, list[str]] = {}
    for line in importlib.metadata.requires(DISTRIBUTION) or []:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        found.setdefault(extra[1] if extra else "", []).append(requirement.replace(" ", ""))
    return found


def _import_name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    name = match[0] if match else requirement
    return _IMPORTED_AS.get(name, name.replace("-", "_"))


def _installer(verb: str = "install") -> str:
    """The installer of this environment: one that uv made has no pip."""
    python = shlex.quote(sys.executable)
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip {verb} --python {python}"
    return f"{python} -m pip {verb}"
