"""Every command of the README and the docs is run, in the order in which a reader meets them.

They run in one folder of a reader's own: with a tiny random model where a model is named, the embedded problems
where MBPP would be read, and little of what takes long. `make` lines are expanded and not run: `make -n`.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import docker_problem
from tests.test_docs import ROOT, _documented
from tests.tiny_model import make_tiny_model

ELSEWHERE = {
    "sdpo-bench eval --engine ray --ray-address HOST:PORT": "tests/evaluator/engines/test_ray.py",
    "sdpo-bench eval --model MODEL --engine ray --ray-address HEAD:6379": "tests/evaluator/engines/test_ray.py",
    "sdpo-bench eval --model NAME --api-base http://a:8000/v1 --api-base http://b:8000/v1 --batch-size 32": (
        "tests/evaluator/engines/test_servers.py"
    ),
    "sdpo-bench train sdpo --config configs/sdpo.yaml --use_vllm true --vllm_mode server "
    "--vllm_server_base_url http://SERVER:8000": "tests/trainer/rollouts/test_vllm_server.py",
    "sdpo-bench eval --engine vllm": "tests/evaluator/engines/test_vllm_engine.py",
    "sdpo-bench sandbox attack tests/attacks --grader COMMAND": "tests/sandbox/test_grader.py",
    "python -m evaluator.cli.shortcuts --dataset sanitized/test --json shortcuts.json": (
        "tests/evaluator/cli/test_shortcuts.py"
    ),
    "sdpo-bench sandbox bench --rounds 10 --against CHECKOUT": "tests/sandbox/test_cli.py",
    # it compares processor time, which other tests disturb
    "sdpo-bench sandbox soak --executions 100000": "tests/sandbox/test_cli.py",
    "sdpo-bench gap --resume RUN": "tests/trainer/experiments/test_gap.py",
    "sdpo-bench sandbox serve": "tests/sandbox/http/test_serve_process.py",
    "sdpo-bench sandbox serve --host 0.0.0.0 --token-file token --workers 8": (
        "tests/sandbox/http/test_serve_process.py"
    ),
    "sdpo-bench train sdpo --config configs/sdpo.yaml --sandbox http://sandbox-host:8765": (
        "tests/sandbox/http/test_commands.py"
    ),
    "sdpo-bench eval --gold --sandbox http://sandbox-host:8765": "tests/sandbox/http/test_commands.py",
    "python -m sandbox.http.openapi > docs/openapi.json": "tests/sandbox/http/test_protocol.py",
    "sdpo-bench watch": "tests/analysis/report/test_watch.py",
    "sdpo-bench sandbox ablate": "the same with a folder, below",
    "sdpo-bench compare": "a name of the command in a sentence",
    "sdpo-bench show": "a name of the command in a sentence",
    "sdpo-bench sql": "a name of the command in a sentence",
    "sdpo-bench eval": "a name of the command in a sentence",
    "sdpo-bench reproduce": "its dry run, below; whole in tests/trainer/experiments/test_reproduce.py",
}
"""Commands that another test runs."""

PLACES = (
    ("Qwen/Qwen2.5-0.5B-Instruct", "tiny"),
    ("qwen-coder-0.5b", "tiny"),
    ("--model MODEL", "--model tiny"),
    ("--model_name_or_path MODEL", "--model_name_or_path tiny"),
    ("--dtype bfloat16 --load-in-4bit", "--dtype float32"),
    ("--model TINY", "--model tiny"),
    ("--model DIR", "--model tiny"),
    ("runs/RUN/adapter", "{trained}/adapter"),
    ("runs/sdpo-42/adapter", "{trained}/adapter"),
    ("runs/RUN", "{cut_training}"),
    ("--resume RUN", "--resume {cut_eval}"),
    ("--completions FILE.jsonl", "--completions answers.jsonl"),
    ("--completions FILE", "--completions answers.jsonl"),
    ("import FILE... --label NAME", "import metrics.csv --label a-name"),
    ("--parquet DIR", "--parquet parquet-2"),
    ("restore DIR", "restore exported --runs-dir restored"),
    ("attack DIR --json FILE", "attack attacks --json attacks.json"),
    ("tests/attacks", "attacks"),
    (
        "grpo|sdpo|hybrid|routed|rlsd|anchored|sft|audit --config FILE [--any_option VALUE]",
        "sdpo --config tiny.yaml --max_steps 1",
    ),
    ("configs/sdpo.yaml", "tiny.yaml"),
    ("configs/grpo.yaml", "tiny.yaml"),
    ("problems check FILE", "problems check examples/own/problems.jsonl"),
    ("sdpo-bench sql QUERY", 'sdpo-bench sql "FROM runs"'),
    ("baseline 56", "baseline 25"),
)
"""What stands for what in the docs."""

ADDED = (
    ("sdpo-bench eval --resume", ""),
    (
        "sdpo-bench eval --adapter",
        "--dataset embedded/test --device cpu --max-new-tokens 8 --allow-other-base",
    ),
    ("sdpo-bench eval --dataset", "--model tiny --device cpu --max-new-tokens 8"),
    ("sdpo-bench eval", "--dataset embedded/test --device cpu --max-new-tokens 8"),
    ("sdpo-bench gap --dataset", "--limit 3 --device cpu --max-new-tokens 8 --batch-size 12"),
    ("sdpo-bench solve --dataset", "--budget 4"),
    (
        "sdpo-bench train grpo --config tiny.yaml --model_name_or_path tiny",
        "--max_steps 1 --evaluate_every 1 --eval_dataset embedded/test --sandbox process",
    ),
    (
        "sdpo-bench train sdpo --config tiny.yaml --model_name_or_path tiny",
        "--max_steps 1 --evaluate_every 1 --eval_dataset embedded/test --sandbox process",
    ),
    (
        "sdpo-bench gap",
        "--dataset embedded/train --limit 3 --device cpu --max-new-tokens 8 --batch-size 12",
    ),
    ("sdpo-bench solve", "--dataset embedded/test --limit 1 --budget 4"),
    ("sdpo-bench demo", "--short"),
    ("sdpo-bench sandbox bench", "--rounds 2"),
    ("python -m benchmarks.verdict", "--pairs 2"),
    ("python -m benchmarks.decode", "--dtype float32 --rows 2 --tokens 3 --rounds 1"),
    ("python -m benchmarks.over_http", "--rounds 1"),
    ("sdpo-bench sandbox soak", "--executions 1000"),
    ("sdpo-bench sandbox ablate", "--backend process"),
    ("python -m benchmarks.evaluation grading", "--dataset embedded/test"),
    (
        "python -m benchmarks.evaluation sampling",
        "--dataset embedded/test --batches 1 --max-new-tokens 8",
    ),
)
"""Options that keep a command short and off the network; the first that fits."""

TINY_CONFIG = """
model_name_or_path: tiny
dataset: embedded/train
use_cpu: true
bf16: false
gradient_checkpointing: false
dtype: float32
use_peft: true
lora_target_modules: [all-linear]
per_device_train_batch_size: 4
num_generations: 4
max_completion_length: 8
learning_rate: 1.0e-4
save_steps: 1
evaluate_every: 0
allow_uncalibrated: true
report_to: none
"""


def _lines():
    """Each command once, README first."""
    return list(dict.fromkeys(line.split("   ")[0].strip() for _, line in _documented()))


APART = tuple(f"sdpo-bench sandbox {name}" for name in ("up", "status", "down", "soak"))
"""Begin, find and end containers for everybody on this machine, other tests included; or compare processor time."""
_ALL = [line for line in _lines() if line.split()[0] != "make" and line not in ELSEWHERE]
DEMOS = [line for line in _ALL if line.startswith("sdpo-bench demo")]
COMMANDS = [line for line in _ALL if not line.startswith(APART) and line not in DEMOS]
BY_THEMSELVES = [line for line in _ALL if line.startswith(APART)]
MAKE = [line for line in _lines() if line.split()[0] == "make"]


def _run(words, folder, timeout_s=300):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("MBPP_DIR", None)
    return subprocess.run(
        words,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _bench(text):
    head, *rest = shlex.split(text)
    lead = [sys.executable, "-m", "sdpo_bench"] if head == "sdpo-bench" else [sys.executable]
    return [*lead, *rest]


def _kill_when(text, folder, holds):
    """Run a command until something holds, then kill it."""
    process = subprocess.Popen(
        _bench(text),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not holds() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, f"ended before it could be killed: {text}"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A reader's folder, and what its places hold."""
    folder = tmp_path_factory.mktemp("reader")
    make_tiny_model(folder / "tiny")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "tests").symlink_to(ROOT / "tests")
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "docs").mkdir()
    (folder / "docs" / "runs").symlink_to(ROOT / "docs" / "runs")
    (folder / "tiny.yaml").write_text(TINY_CONFIG)
    (folder / "metrics.csv").write_text("step,reward\n1,0.5\n2,0.75\n")
    (folder / "question.sql").write_text("FROM leaderboard")
    answer = json.dumps({"task_id": 25, "completion": "```python\nx = 1\n```"})
    (folder / "answers.jsonl").write_text(answer + "\n")
    _copy_attacks(folder / "attacks")

    def run_of(kind, label):
        return next((folder / "runs").glob(f"{kind}*-{label}-*"))

    train = "sdpo-bench train sdpo --config tiny.yaml --sandbox process"
    done = _run(_bench(f"{train} --label trained --max_steps 1"), folder)
    assert done.returncode == 0, done.stderr
    _kill_when(
        f"{train} --label cut --max_steps 30",
        folder,
        lambda: list(
            (folder / "runs").glob("train-sdpo-cut-*/checkpoints/checkpoint-*/trainer_state.json")
        ),
    )
    evaluation = (
        "sdpo-bench eval --model tiny --dataset embedded/test --device cpu --sandbox process"
    )
    _kill_when(
        f"{evaluation} --label cut --batch-size 1 --max-new-tokens 64",
        folder,
        lambda: any(
            path.read_bytes().count(b"\n") > 2
            for path in (folder / "runs").glob("eval-cut-*/segment-*")
        ),
    )
    done = _run(_bench("sdpo-bench export --parquet exported"), folder)
    assert done.returncode == 0, done.stderr
    places = {
        "trained": str(run_of("train", "trained").relative_to(folder)),
        "cut_training": str(run_of("train", "cut").relative_to(folder)),
        "cut_eval": run_of("eval", "cut").name,
    }
    return folder, places


def _copy_attacks(folder):
    """Two attacks with the index that names them."""
    folder.mkdir()
    index = json.loads((ROOT / "tests/attacks/index.json").read_text())
    kept = index[:2]
    (folder / "index.json").write_text(json.dumps(kept))
    for entry in kept:
        name = entry["file"]
        (folder / name).write_text((ROOT / "tests/attacks" / name).read_text())


def _as_run(line, places):
    """The line with the docs' places filled and what keeps it short."""
    for place, value in PLACES:
        line = line.replace(place, value.format(**places))
    return _shortened(line)


def _shortened(line):
    added = next((more for start, more in ADDED if line.startswith(start)), "")
    return f"{line} {added}".strip()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_docs_runs(line, reader):
    folder, places = reader
    if line.startswith("sdpo-bench sandbox") and (problem := docker_problem()):
        pytest.skip(f"no Docker sandbox: {problem}")
    _must_run(_as_run(line, places), folder, line)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("line", DEMOS)
def test_a_demo_of_the_docs_runs(line, tmp_path):
    # A minute each, and no other line needs them. Four seeds are eight runs more of the same kind; one seed after
    # another is tests/trainer/demo's.
    one_seed = line.replace("--seeds 42,43,44,45", "--seeds 42")
    _must_run(_shortened(one_seed), tmp_path, line)


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """An empty folder; what stands afterwards is taken down."""
    yield tmp_path_factory.mktemp("standing")
    _run(_bench("sdpo-bench sandbox down"), tmp_path_factory.getbasetemp())


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.parametrize("line", BY_THEMSELVES)
def test_a_command_of_the_docs_that_wants_to_be_alone_runs(line, standing):
    _must_run(_shortened(line), standing, line)


def _must_run(text, folder, line):
    done = _run(_bench(text), folder)
    # doctor's status says whether this machine lacks something
    allowed = {0, 1} if line in ("sdpo-bench doctor", "sdpo-bench sandbox doctor") else {0}
    assert done.returncode in allowed, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr, f"{text}\n{done.stderr[-3000:]}"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
@pytest.mark.parametrize("line", MAKE)
def test_a_make_line_of_the_docs_expands(line):
    words = shlex.split(line.replace("train-*", "train-sdpo"))
    found = subprocess.run(
        [words[0], "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    for name, value in (word.split("=", 1) for word in words[1:] if "=" in word):
        if name in ("MODEL", "CONFIG", "WHEELS", "ARGS"):
            assert value in found.stdout.replace("'", "").replace('"', ""), (name, found.stdout)


def test_what_is_said_to_be_run_elsewhere_is_in_the_docs_and_its_test_is_there():
    lines = set(_lines())
    for line, where in ELSEWHERE.items():
        assert line in lines, line
        if where.startswith("tests/"):
            assert (ROOT / where).is_file(), where
    assert len(COMMANDS) > 40 and len(DEMOS) > 3 and len(BY_THEMSELVES) > 3 and len(MAKE) > 20


def test_nothing_that_stands_for_something_is_left_unfilled():
    places = {"trained": "runs/t", "cut_training": "runs/c", "cut_eval": "e"}
    for line in COMMANDS:
        assert not re.search(
            r"(?<![\w-])[A-Z]{3,}(?![\w-])", re.sub('"[^"]*"', "", _as_run(line, places))
        ), line
