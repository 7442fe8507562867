"""Two `accelerate launch` with --machine_rank 0 and 1, as two machines with a shared runs folder start one run.

Both are on this machine, over gloo; the command is the documented one, with the process sandbox.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis.journal.journal import segments
from analysis.journal.lines import scan
from analysis.records import RunState
from tests.trainer.outcomes import outcome

ROOT = Path(__file__).parents[3]
WITHIN_S = 400


class Machine:
    """One machine's part of a run."""

    def __init__(self, rank, port, folder, *words):
        self.said = folder / f"machine-{rank}-{port}.txt"
        launch = [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--multi_gpu",
            "--num_machines",
            "2",
        ]
        launch += [
            "--num_processes",
            "2",
            "--machine_rank",
            str(rank),
            "--main_process_ip",
            "127.0.0.1",
        ]
        launch += [
            "--main_process_port",
            str(port),
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
        ]
        with self.said.open("w") as said:
            self.launcher = subprocess.Popen(
                [*launch, "-m", "sdpo_bench", "train", *map(str, words)], cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def kill_trainer(self):
        """Kill what trains, not what launched it: as a crash or the kernel's memory killer does."""
        children = Path(f"/proc/{self.launcher.pid}/task/{self.launcher.pid}/children")
        (pid,) = map(int, children.read_text().split())
        os.kill(pid, signal.SIGKILL)

    def end(self):
        status = self.launcher.wait(timeout=WITHIN_S)
        return status, self.said.read_text()


@pytest.fixture
def start(tmp_path):
    started = []

    def both(*words):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pair = [Machine(rank, port, tmp_path, *words) for rank in (0, 1)]
        started.extend(pair)
        return pair

    yield both
    for machine in started:
        machine.launcher.kill()


def wait_for(found):
    end = time.monotonic() + WITHIN_S
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(3 * WITHIN_S)
@pytest.mark.long
def test_two_machines_train_one_run_which_goes_on_after_one_was_lost(config_file, start, tmp_path):
    config = config_file(
        max_steps=8, save_strategy="steps", save_steps=1, save_total_limit=20,
        gradient_accumulation_steps=1, runs_dir=str(tmp_path / "runs"),
    )  # fmt: skip
    machines = start("sdpo", "--config", config)
    wait_for(lambda: list((tmp_path / "runs").glob("*/checkpoints/checkpoint-2/complete")))
    machines[1].kill_trainer()
    (status, said), (lost, _) = (machine.end() for machine in machines)
    assert status and lost
    (run,) = (tmp_path / "runs").iterdir()
    line = next(line for line in said.splitlines() if line.startswith("Error: "))
    assert line.startswith("Error: every process must stay to the end, got one lost (")
    assert line.endswith("goes on from the last checkpoint, started on every machine")
    assert states(run)[-1] == "stopped"
    written = {path.name for path in (run / "checkpoints" / "checkpoint-1").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", "position-0.pt", "position-1.pt"} < written

    for status, said in [machine.end() for machine in start("--resume", run)]:
        assert status == 0, said
    assert states(run)[-1] == "finished"
    assert len(segments(run)) == 2, "the journal has one writer an attempt, of the first machine"
    rollouts = outcome(tmp_path / "runs")[0]
    assert len(rollouts) == 8 * 8 == len(set(map(str, rollouts)))
    assert (run / "adapter" / "adapter_model.safetensors").is_file()


def states(run):
    rows = [
        line for _, path in segments(run) for line in scan(path) if line.table == RunState.table
    ]
    return [RunState.model_validate_json(line.row).state for line in rows]
