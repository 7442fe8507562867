import sys

from click.testing import CliRunner

from evaluator.cli.doctor import doctor as command
from evaluator.doctor import checks as doctor
from evaluator.doctor.finding import Finding


def test_a_folder_that_takes_no_files_is_a_failure_with_a_remedy(tmp_path):
    (tmp_path / "file").touch()
    found = doctor._writable(tmp_path / "file" / "runs")
    assert found.state == "FAIL" and "must take files" in found.text and "--runs-dir" in found.mend


def test_a_full_disk_and_little_memory_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "FREE_DISK_BYTES", 1 << 62)
    monkeypatch.setattr(doctor, "FREE_MEMORY_BYTES", 1 << 62)
    disk, memory = doctor._room(tmp_path / "not" / "there")
    assert (disk.state, memory.state) == ("FAIL", "note") and "GiB" in disk.text


def test_an_altered_data_set_is_named(tmp_path):
    (tmp_path / "mbpp.jsonl").write_text("{}\n")
    (tmp_path / "sanitized-mbpp.json").write_text("[]\n")
    found = list(doctor._data(tmp_path))
    assert [finding.state for finding in found] == ["note", "note"]
    assert all("sha256" in finding.text and "MBPP_DIR" in finding.mend for finding in found)


def test_an_old_python_is_a_failure(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    assert doctor._python() == Finding("FAIL", "Python 3.10.1")


def test_the_training_images_extras_are_said(tmp_path, monkeypatch):
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\necho gpu\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._train_image("make it").text == "the training image is built, with gpu"
    fake.write_text("#!/bin/sh\nexit 1\n")
    assert doctor._train_image("make it").mend == "make it"


def test_the_command_prints_a_line_each_and_fails_where_something_must_be_mended(
    tmp_path, monkeypatch
):
    lines = [Finding("ok", "fine"), Finding("FAIL", "broken", "mend it")]
    monkeypatch.setattr(doctor, "examine", lambda **_: iter(lines))
    run = CliRunner().invoke(command, ["--runs-dir", str(tmp_path)])
    assert run.exit_code == 1
    assert run.output.splitlines() == ["ok    fine", "FAIL  broken  ->  mend it"]
