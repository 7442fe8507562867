"""The GPU variant of the training image, seen without a GPU: what Unsloth and the first CUDA call need is there."""

import os
import shutil
import subprocess

import pytest

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]
IMAGE = "sdpo-bench-train-gpu"


@pytest.fixture(scope="module", autouse=True)
def image():
    known = ["docker", "image", "inspect", IMAGE]
    if shutil.which("docker") is None or subprocess.run(known, capture_output=True).returncode != 0:
        build = f"make train-image EXTRAS=gpu ARGS='--tag {IMAGE}'"
        if os.environ.get("SDPO_BENCH_REQUIRE_CONTAINERS") == "1":
            pytest.fail(f"the GPU image is required here; {build}")
        pytest.skip(f"no GPU image; {build}")


def inside(script, *options):
    """What a shell prints in a container of it, as a user that is neither root nor the image's own."""
    done = subprocess.run(
        [
            *(
                "docker",
                "run",
                "--rm",
                "--network",
                "none",
                "--user",
                "1234:1234",
                "--cap-drop",
                "ALL",
            ),
            *(*options, "--entrypoint", "sh", IMAGE, "-c", script),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_it_has_a_c_compiler_that_finds_pythons_header():
    include = "$(python -c 'import sysconfig; print(sysconfig.get_config_var(\"INCLUDEPY\"))')"
    inside(
        f"test -f {include}/Python.h && echo '#include <Python.h>' | cc -I{include} -x c -c - -o /tmp/x.o"
    )


def test_its_packages_can_be_imported_by_any_user():
    said = inside("python /app/scripts/check_imports.py gpu")
    assert said.startswith("imported: peft, trl, bitsandbytes, unsloth; compiled against Python.h")


def test_the_build_left_nothing_that_another_user_cannot_write_to():
    """Caches of the user who built it: Triton's and Unsloth's would be refused to everyone else."""
    assert inside("find /tmp -mindepth 1 -not -user 1234").split() == []


def test_the_driver_is_asked_for_by_the_image():
    assert inside("echo $NVIDIA_DRIVER_CAPABILITIES").strip() == "compute,utility"


def test_without_the_extra_or_with_a_torchvision_that_does_not_fit_the_check_fails():
    """What the last step of the build refuses; pip check would accept it."""
    broken = "mkdir /tmp/p && echo 'raise RuntimeError(\"operator torchvision::nms does not exist\")' >/tmp/p/peft.py"
    said = inside(
        f"{broken}; PYTHONPATH=/tmp/p:/app python /app/scripts/check_imports.py gpu 2>&1; echo $?"
    )
    assert "peft must be importable" in said and said.strip().endswith("1")
