import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import check_extra

LOCK = check_extra.pins((check_extra.ROOT / "requirements.lock").read_text())


def uv(tmp_path, body):
    """A resolver that says what the test wants."""
    file = tmp_path / "uv"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return subprocess.run(
        [sys.executable, check_extra.__file__, "--uv", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_resolution_that_leaves_the_locked_packages_is_told_for_each_python(tmp_path):
    done = uv(tmp_path, f"printf 'torch=={LOCK['torch']}\\nunsloth==1\\n'")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "Python 3.11", "Python 3.12", "Python 3.13"
    ]  # fmt: skip


def test_a_torch_that_moves_is_a_failure(tmp_path):
    done = uv(tmp_path, "printf 'torch==2.99.0\\n'")
    assert done.returncode == 1 and f"torch {LOCK['torch']} -> 2.99.0" in done.stderr


def test_one_python_without_a_resolution_is_a_failure(tmp_path):
    body = f"case \"$*\" in *3.13*) echo 'no wheel of xformers' >&2; exit 1;; esac; echo 'torch=={LOCK['torch']}'"
    done = uv(tmp_path, body)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "on Python 3.13, got: no wheel of xformers" in done.stderr


def test_a_resolution_without_torch_shows_nothing_and_fails(tmp_path):
    assert "torch must be among" in uv(tmp_path, "echo 'unsloth==1'").stderr
