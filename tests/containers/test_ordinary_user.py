"""The default tests as an ordinary user without Docker, network, make or git: in the training container.

Where SDPO_BENCH_SCALE is below 1, without those whose outcome the user, the image and the network cannot change.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import train_image  # noqa: E402

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1200)]
SAME_FOR_EVERYONE = """
analysis/charts analysis/reward_hacking analysis/statistics benchmarks differential evaluator/answers
evaluator/models evaluator/sampling scripts/test_mutation.py trainer/audit trainer/losses
trainer/rollouts trainer/step trainer/teacher trainer/training
""".split()
"""Tests whose code computes, or writes only through journal and checkpoints, which other folders test: no
user, network or missing command changes their outcome. Left out where SDPO_BENCH_SCALE is below 1."""


def run():
    """The shell's line; the shell stays, and reaps what a program leaves behind."""
    scaled = float(os.environ.get("SDPO_BENCH_SCALE", "1")) < 1
    left_out = []
    if scaled:
        options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
        default = options["ini_options"]["addopts"][-1]
        # what wants the processors for itself is no matter of the user, and CI runs this beside other steps
        left_out = [f"-m '{default} and not alone'"]
        left_out += [f"--ignore=tests/{name}" for name in SAME_FOR_EVERYONE]
    # two, since a test often waits for a sandbox, and CI runs another row of steps beside this one
    processes = "-n 2 --dist worksteal"
    tests = " ".join(["python -m pytest -q -p no:cacheprovider", processes, *left_out])
    return f"cp -r /checkout /tmp/checkout && cd /tmp/checkout && {tests}; exit $?"


def _made_here(folder, names):
    """What is no source: in the checkout itself, and caches anywhere."""
    patterns = [".*_cache", "__pycache__"]
    if Path(folder) == ROOT:
        patterns += [".venv*", ".git", ".hypothesis", "runs", "results", "cache", "build"]
    return shutil.ignore_patterns(*patterns)(folder, names)


def test_the_default_tests_pass_for_an_ordinary_user_without_docker(tmp_path):
    """Root may write anywhere and give its files away: what only works for it is not seen by it."""
    known = ["docker", "image", "inspect", train_image.IMAGE]
    if shutil.which("docker") is None or subprocess.run(known, capture_output=True).returncode != 0:
        if os.environ.get("SDPO_BENCH_REQUIRE_CONTAINERS") == "1":
            pytest.fail("the training image is required here; make train-image builds it")
        pytest.skip("no training image")
    shutil.copytree(ROOT, tmp_path / "checkout", ignore=_made_here, symlinks=True)
    for part in [tmp_path, *tmp_path.parents][:3]:
        part.chmod(0o755)
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--network", "none", "--user", "1234:1234"),
            *("--tmpfs", "/tmp:exec,size=4g,mode=1777"),
            *("-v", f"{tmp_path / 'checkout'}:/checkout:ro", "--entrypoint", "sh"),
            *(train_image.IMAGE, "-c", run()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_what_is_left_out_is_there():
    assert [name for name in SAME_FOR_EVERYONE if not (ROOT / "tests" / name).exists()] == []
