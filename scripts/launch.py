"""Runs an `sdpo-bench` command in the training container where there is one, else on this machine.

    python3 scripts/launch.py [--in auto|host|container] [--online] train sdpo --config configs/sdpo.yaml

The container sees the checkout's runs, results and configs; a file or folder elsewhere that the command
names (a model, an adapter, MBPP) is mounted read-only. Standard library only: where the containers are used,
this machine needs no virtual environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import train_image  # beside this file

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ("sdpo-bench-sandbox", train_image.IMAGE)
_MOUNTED = (
    "--config",
    "--model",
    "--model_name_or_path",
    "--adapter",
    "--mbpp-dir",
    "--mbpp_dir",
    "--completions",
)
"""Options that may name something outside the checkout."""
_INSIDE = ("runs", "results", "configs")


def main() -> None:
    """Choose, then become the command."""
    parser = argparse.ArgumentParser(
        description="Run an sdpo-bench command in the training container or here."
    )
    parser.add_argument("--in", dest="place", choices=["auto", "host", "container"], default="auto")
    parser.add_argument(
        "--online", action="store_true", help="let the container fetch models and data"
    )
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="the command, without `sdpo-bench`"
    )
    options = parser.parse_args()
    problem = None if options.place == "host" else container_problem()
    if options.place == "auto" and _has_server(options.command):
        problem = "the container has no network, and the sandbox is a server's"
    if options.place == "container" and problem is not None:
        sys.exit(
            f"the containers must be there, got {problem}; use IN=host for this machine's own environment"
        )
    if options.place != "host" and problem is None:
        run(compose_command(options.command, compose=find_compose() or [], online=options.online))
    if problem is not None:
        print(f"on this machine, not in a container: {problem}", file=sys.stderr)
    run_here(options.command)


def _has_server(command: Sequence[str]) -> bool:
    """Whether the command names the address of a sandbox's server."""
    words = " ".join(command).replace("=", " ").split()
    return any(
        name == "--sandbox" and value.startswith(("http://", "https://"))
        for name, value in zip(words, words[1:], strict=False)
    )


def container_problem() -> str | None:
    """Why the containers cannot be used, or None."""
    if shutil.which("docker") is None:
        return "no docker command"
    if find_compose() is None:
        return "neither `docker compose` nor docker-compose"
    for image in IMAGES:
        if _quietly(["docker", "image", "inspect", image]) != 0:
            return f"no image {image} (make sandbox train-image)"
    form = f'{{{{index .Config.Labels "{train_image.LABEL}"}}}}'
    shown = subprocess.run(
        ["docker", "image", "inspect", "--format", form, train_image.IMAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    if shown.stdout.strip() != train_image.source_digest():
        return f"an image {train_image.IMAGE} of other sources (make train-image)"
    return None


def find_compose() -> list[str] | None:
    """The command that answers, Compose v2 first."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and _quietly([*command, "version"]) == 0:
            return command
    return None


def compose_command(command: Sequence[str], *, compose: Sequence[str], online: bool) -> list[str]:
    """Return the command line that runs `command` in the training service."""
    files = ["compose.yaml"]
    if shutil.which("nvidia-smi") is not None and _quietly(["nvidia-smi"]) == 0:
        files.append("compose.gpu.yaml")
    if online:
        files.append("compose.online.yaml")
    chosen = [part for name in files for part in ("-f", str(ROOT / name))]
    mounts, inside = mounted(command)
    if mbpp := os.environ.get("MBPP_DIR"):
        mounts += ["-v", f"{Path(mbpp).resolve()}:/mbpp:ro", "-e", "MBPP_DIR=/mbpp"]
    return [
        *compose,
        "--project-directory",
        str(ROOT),
        *chosen,
        "run",
        "--rm",
        *mounts,
        "train",
        *inside,
    ]


def mounted(command: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return mounts for what the command names outside the checkout's own folders, and the command as seen inside."""
    mounts: list[str] = []
    inside: list[str] = []
    option = ""
    for word in command:
        name, equals, value = word.partition("=") if word.startswith("--") else (option, "", word)
        seen = word
        if name in _MOUNTED and value and os.path.exists(value):
            path = Path(value).resolve()
            target = _inside_path(path)
            if target is None:
                target = f"/mnt/{len(mounts) // 2}/{path.name}"
                mounts += ["-v", f"{path}:{target}:ro"]
            seen = f"{name}={target}" if equals else target
        inside.append(seen)
        option = word if word.startswith("--") and "=" not in word else ""
    return mounts, inside


def _inside_path(path: Path) -> str | None:
    """Where a path of the checkout's shared folders is inside, or None where it is elsewhere."""
    for name in _INSIDE:
        if path.is_relative_to(ROOT / name):
            return f"/app/{path.relative_to(ROOT)}"
    return None


def run(command: Sequence[str]) -> None:
    """Run it, with this user's number for what it writes, and exit as it did."""
    for name in ("runs", "results", "cache"):
        # an engine would make them, and they would be root's
        (ROOT / name).mkdir(exist_ok=True)
    user = {"HOST_UID": str(os.getuid()), "HOST_GID": str(os.getgid())}
    sys.exit(subprocess.run(command, env={**os.environ, **user}, check=False).returncode)


def run_here(command: Sequence[str]) -> None:
    """Set the virtual environment up where it is not, then become the command."""
    done = subprocess.run(["make", "--no-print-directory", "-C", str(ROOT), "setup"], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)
    binary = str(ROOT / ".venv" / "bin" / "sdpo-bench")
    os.execv(binary, [binary, *command])  # noqa: S606 - our own command


def _quietly(command: Sequence[str]) -> int:
    return subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    ).returncode


if __name__ == "__main__":
    main()
