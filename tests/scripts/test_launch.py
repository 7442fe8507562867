import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import launch
import train_image


def test_what_lies_elsewhere_is_mounted_read_only_and_named_as_it_is_inside(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    mounts, inside = launch.mounted(
        ["train", "sdpo", "--model_name_or_path", str(model), "--seed", "1"]
    )
    assert mounts == ["-v", f"{model}:/mnt/0/model:ro"]
    assert inside == ["train", "sdpo", "--model_name_or_path", "/mnt/0/model", "--seed", "1"]


def test_an_option_with_its_value_in_one_word_is_understood(tmp_path):
    mounts, inside = launch.mounted(["eval", f"--adapter={tmp_path}"])
    assert mounts[1].endswith(":ro") and inside[1] == f"--adapter=/mnt/0/{tmp_path.name}"


def test_a_hub_name_is_left_alone():
    assert launch.mounted(["eval", "--model", "Qwen/Qwen2.5-0.5B"]) == (
        [],
        ["eval", "--model", "Qwen/Qwen2.5-0.5B"],
    )


def test_the_checkouts_own_folders_are_where_compose_mounts_them():
    config = launch.ROOT / "configs" / "sdpo.yaml"
    mounts, inside = launch.mounted(["train", "sdpo", "--config", str(config)])
    assert mounts == [] and inside[-1] == "/app/configs/sdpo.yaml"


def test_without_docker_the_containers_are_not_used_and_why_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.container_problem() == "no docker command"
    done = subprocess.run(
        [sys.executable, launch.__file__, "--in", "container", "runs"],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(
        "the containers must be there, got no docker command; use IN=host"
    )


def test_what_enters_the_image_is_what_the_dockerfile_copies():
    lines = (launch.ROOT / "Dockerfile.train").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    copied = {
        word.split("/")[0]
        for word in copied
        if not word.startswith("--from") and not word.startswith("wheel")
    }
    sources = {*train_image.SOURCES, *train_image.TEXTS}
    assert copied - {""} == sources - {"Dockerfile.train"}


def test_a_changed_source_changes_the_digest(monkeypatch, tmp_path):
    before = train_image.source_digest()
    monkeypatch.setattr(train_image, "ROOT", tmp_path)
    for name in train_image.SOURCES:
        (tmp_path / name).touch()
    assert train_image.source_digest() != before
    one = train_image.source_digest()
    (tmp_path / "trainer").write_text("x")
    assert train_image.source_digest() != one


def test_a_folder_without_wheels_is_refused(tmp_path):
    (tmp_path / "docker").symlink_to("/bin/true")
    done = subprocess.run(
        [sys.executable, train_image.__file__, "--wheels", str(tmp_path)],
        env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "must name a folder of wheels" in done.stderr


@pytest.mark.parametrize("extra", ["gpu", "ray", "gpu,ray"])
def test_an_extras_requirements_are_those_of_the_project(extra):
    script = launch.ROOT / "scripts" / "extra_requirements.py"
    done = subprocess.run(
        [sys.executable, script, extra], capture_output=True, text=True, check=True
    )
    assert ("unsloth==" in done.stdout) == ("gpu" in extra)


def test_an_unknown_extra_is_refused():
    script = launch.ROOT / "scripts" / "extra_requirements.py"
    done = subprocess.run(
        [sys.executable, script, "tpu"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "got tpu" in done.stderr


@pytest.mark.parametrize(
    ("command", "has"),
    [
        (["eval", "--sandbox", "http://host:1"], True),
        (["train", "sdpo", "--sandbox=https://host"], True),
        (["eval", "--sandbox", "docker", "--api-base", "http://host:1"], False),
        (["eval", "--api-base", "http://host:1"], False),
        ([], False),
    ],
)
def test_a_sandbox_elsewhere_is_seen_before_a_container_without_a_network_is_started(command, has):
    assert launch._has_server(command) is has
