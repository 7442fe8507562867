"""Checks that an extra goes beside the locked packages on each Python, without moving one.

    python scripts/check_extra.py --uv build/uv/bin/uv [--extra gpu]

uv resolves for a Python that is not on this machine, and reads what a package needs without fetching it: the CUDA
builds of torch are gigabytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")


def main() -> None:
    """Exit with a line for each Python on which it does not resolve, or moves a locked package."""
    parser = argparse.ArgumentParser(description="Resolve an extra beside the locked packages.")
    parser.add_argument("--uv", default="uv", help="the resolver's command")
    parser.add_argument("--extra", default="gpu", help="of pyproject.toml; default: %(default)s")
    options = parser.parse_args()
    locked = pins((ROOT / "requirements.lock").read_text())
    problems = []
    for python in PYTHONS:
        done = subprocess.run(
            [
                *(options.uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate"),
                *("--python-version", python, "--constraint", str(ROOT / "requirements.lock")),
                *("--extra", "train", "--extra", options.extra, str(ROOT / "pyproject.toml")),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            problems.append(
                f"the extra {options.extra} must resolve on Python {python}, got: {done.stderr.strip()[-2000:]}"
            )
            continue
        found = pins(done.stdout)
        if problem := moved(found, locked):
            problems.append(f"on Python {python} {problem}")
        beside = len(found.keys() - locked.keys())
        print(
            f"Python {python}: torch {found.get('torch')}, {beside} packages beside the locked ones"
        )
    sys.exit("\n".join(problems) or None)


def pins(text: str) -> dict[str, str]:
    """The versions that a lock names, by normalised name."""
    lines = (line.split("#")[0].split(";")[0].strip() for line in text.splitlines())
    named = (line.partition("==") for line in lines if "==" in line)
    return {name.strip().lower().replace("_", "-"): version.strip() for name, _, version in named}


def moved(found: dict[str, str], locked: dict[str, str]) -> str | None:
    """Which packages have another version than the locked one, or None; torch must be among those found."""
    if "torch" not in found:
        return "torch must be among the packages, got none"
    other = sorted(name for name in found.keys() & locked.keys() if found[name] != locked[name])
    if not other:
        return None
    words = ", ".join(f"{name} {locked[name]} -> {found[name]}" for name in other)
    return f"no locked package may move, got {words}"


if __name__ == "__main__":
    main()
