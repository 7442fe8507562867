"""How a run can end early: on a signal, a fault, a number that is none. Its state stays, and it goes on."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

import trainer.rollouts.rollouts
import trainer.step.loss_trainer
import trainer.training.validation
from analysis.journal.lines import scan
from sandbox.program import SandboxError
from trainer.endings.faults import OutsideFault
from trainer.endings.resume import last_checkpoint
from trainer.endings.stop import Stopped, StopRequest
from trainer.options.config import ConfigError, parse_options
from trainer.step.callbacks import NonFinite
from trainer.training.train import resume, train


@pytest.fixture
def options(config_file, hashed_grades):

    def make(**changes):
        short = {"max_steps": 3, "max_completion_length": 8, "save_total_limit": 2}
        return parse_options(config_file(**short, **changes))

    return make


def say_nothing(line):
    pass


def weights(run_dir):
    folders = [
        run_dir / name for name in ("adapter", "teacher_adapter") if (run_dir / name).is_dir()
    ]
    return {
        (folder.name, name): tensor
        for folder in folders
        for name, tensor in load_file(folder / "adapter_model.safetensors").items()
    }


def rows(run_dir, table):
    return [
        json.loads(line.row)
        for segment in sorted(run_dir.glob("segment-*.jsonl"))
        for line in scan(segment)
        if line.table == table
    ]


def only_run(options):
    (run_dir,) = Path(options.bench.runs_dir).glob("train-*")
    return run_dir


def check_same(run_dir, expected):
    ours, theirs = weights(run_dir), weights(expected)
    assert ours.keys() == theirs.keys() and ours
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


class At(TrainerCallback):
    """Does something at the end of one step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


@pytest.mark.parametrize(
    "teacher",
    [
        "ema",
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ("trust_region", "frozen", "live")
        ),
    ],
)
def test_a_signal_saves_the_step_and_the_resumed_run_is_the_one_never_stopped(
    options, tmp_path, teacher
):
    number, changes = signal.SIGTERM, {"teacher": teacher}
    plain = train("sdpo", options(runs_dir=str(tmp_path / "plain"), **changes), say=say_nothing)

    stopped, stop = options(runs_dir=str(tmp_path / "stopped"), **changes), StopRequest()

    def ask(trainer):
        trainer.callback_handler.callbacks.insert(0, At(1, lambda: os.kill(os.getpid(), number)))

    before = signal.getsignal(number)  # a library that another test used may have left its own
    with (
        stop.installed(),
        pytest.raises(Stopped, match=r"stopped on SIGTERM after step 1.*--resume"),
    ):
        train("sdpo", stopped, say=say_nothing, prepare=ask, stop=stop)
    assert signal.getsignal(number) == before
    run_dir = only_run(stopped)
    assert last_checkpoint(run_dir).name == "checkpoint-1"
    assert rows(run_dir, "run_states")[-1]["state"] == "stopped"
    assert not (run_dir / "adapter").exists()

    resume(run_dir, say=say_nothing)
    check_same(run_dir, plain.run_dir)
    assert rows(run_dir, "run_states")[-1]["state"] == "finished"


def test_a_second_signal_interrupts_at_once():
    # raised in this thread: a signal to the process may be taken by another, and come after the line
    stop = StopRequest()
    stop.waits = True
    with stop.installed():
        signal.raise_signal(signal.SIGINT)
        assert stop.signal_name == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_an_evaluation_that_a_stop_left_out_is_made_by_the_resumed_run(options, tmp_path):
    evaluated = {"evaluate_every": 2, "eval_dataset": "embedded/test", "eval_max_problems": 2}
    stopped, stop = options(runs_dir=str(tmp_path / "stopped"), **evaluated), StopRequest()

    def ask(trainer):
        trainer.callback_handler.callbacks.insert(
            0, At(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        )

    with stop.installed(), pytest.raises(Stopped):
        train("sdpo", stopped, say=say_nothing, prepare=ask, stop=stop)
    run_dir = only_run(stopped)
    assert [row["step"] for row in rows(run_dir, "evals")] == [0]
    resume(run_dir, say=say_nothing)
    assert [row["step"] for row in rows(run_dir, "evals")] == [0, 2, 3]


def fail_between(monkeypatch, module, name, first, last):
    """The function fails on its calls number `first` to `last`, as a sandbox that is gone for a while."""
    original, calls = getattr(module, name), []

    def failing(*args, **kwargs):
        calls.append(1)
        if first <= len(calls) <= last:
            raise SandboxError("the engine must answer, got nothing; start it")
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, failing)


@pytest.mark.slow
def test_a_sandbox_that_is_gone_for_a_while_costs_time_and_nothing_else(
    options, tmp_path, monkeypatch
):
    plain = train("sdpo", options(runs_dir=str(tmp_path / "plain")), say=say_nothing)
    fail_between(monkeypatch, trainer.rollouts.rollouts, "grade", 2, 2)
    said = []
    patient = options(runs_dir=str(tmp_path / "patient"), fault_patience_s=0.02)
    result = train("sdpo", patient, say=said.append)
    assert sum("grading failed" in line for line in said) == 1
    check_same(result.run_dir, plain.run_dir)


def test_a_sandbox_that_stays_gone_stops_the_run_with_its_state_and_no_reward(
    options, tmp_path, monkeypatch
):
    plain = train("sdpo", options(runs_dir=str(tmp_path / "plain")), say=say_nothing)
    fail_between(monkeypatch, trainer.rollouts.rollouts, "grade", 2, 2)
    broken = options(runs_dir=str(tmp_path / "broken"))
    with pytest.raises(
        OutsideFault, match=r"grading must work.*state of step 1 is saved.*--resume"
    ):
        train("sdpo", broken, say=say_nothing)
    run_dir = only_run(broken)
    assert {row["step"] for row in rows(run_dir, "rollouts")} == {1}, (
        "no row, so no reward, of step 2"
    )
    assert last_checkpoint(run_dir).name == "checkpoint-1"
    resume(run_dir, say=say_nothing)  # the sandbox is back
    check_same(run_dir, plain.run_dir)


@pytest.mark.slow
def test_an_evaluation_that_fails_stops_the_run_with_its_state(options, tmp_path, monkeypatch):
    evaluated = {"evaluate_every": 2, "eval_dataset": "embedded/test", "eval_max_problems": 2}
    plain = train("sdpo", options(runs_dir=str(tmp_path / "plain"), **evaluated), say=say_nothing)
    fail_between(monkeypatch, trainer.training.validation, "evaluate", 2, 2)
    broken = options(runs_dir=str(tmp_path / "broken"), **evaluated)
    with pytest.raises(OutsideFault, match=r"the evaluation must work.*state of step 2 is saved"):
        train("sdpo", broken, say=say_nothing)
    run_dir = only_run(broken)
    resume(run_dir, say=say_nothing)
    assert [row["step"] for row in rows(run_dir, "evals")] == [0, 2, 3]
    check_same(run_dir, plain.run_dir)


@pytest.mark.slow
def test_a_disk_that_is_full_when_a_checkpoint_is_due_is_waited_for(options, tmp_path, monkeypatch):
    original, calls = torch.save, []

    def full(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        return original(*args, **kwargs)

    plain = train("sdpo", options(runs_dir=str(tmp_path / "plain")), say=say_nothing)
    monkeypatch.setattr(torch, "save", full)
    said = []
    saving = {"save_strategy": "steps", "save_steps": 1, "fault_patience_s": 0.01}
    result = train("sdpo", options(runs_dir=str(tmp_path / "full"), **saving), say=said.append)
    assert any("saving the checkpoint failed" in line for line in said)
    assert last_checkpoint(result.run_dir).name == "checkpoint-3"
    check_same(result.run_dir, plain.run_dir)


@pytest.mark.parametrize(
    "bad", [float("nan"), pytest.param(float("inf"), marks=pytest.mark.slow)], ids=str
)
def test_a_loss_that_is_no_number_stops_the_run_with_its_batch_and_the_weights_before(
    options, tmp_path, monkeypatch, bad
):
    original, calls = trainer.step.loss_trainer.token_mean, []

    def broken(*args, **kwargs):
        calls.append(1)
        loss = original(*args, **kwargs)
        return loss * bad if len(calls) == 3 else loss  # first micro-batch of step 2

    plain = train("sdpo", options(runs_dir=str(tmp_path / "plain")), say=say_nothing)
    monkeypatch.setattr(trainer.step.loss_trainer, "token_mean", broken)
    made = options(runs_dir=str(tmp_path / "broken"))
    with pytest.raises(
        NonFinite, match=r"the loss must be finite.*step 2.*batch is in.*step 1 is saved"
    ):
        train("sdpo", made, say=say_nothing)
    run_dir = only_run(made)
    folder = run_dir / "non-finite" / "step-2"
    batch = torch.load(folder / "batch.pt")
    assert len(batch) == 2 and all(torch.isfinite(part["advantages"]).all() for part in batch)
    texts = json.loads((folder / "batch.json").read_text())
    sampled = {row["completion"] for row in rows(run_dir, "rollouts") if row["step"] == 2}
    assert len(sampled) and len(texts[0]["completion"]) == 4
    resume(run_dir, say=say_nothing)
    check_same(run_dir, plain.run_dir)


@pytest.mark.slow
def test_other_base_weights_under_a_checkpoint_are_refused(options, tmp_path, tiny_model):
    moved = tmp_path / "model"
    shutil.copytree(tiny_model, moved)
    made, stop = (
        options(runs_dir=str(tmp_path / "runs"), model_name_or_path=str(moved)),
        StopRequest(),
    )
    stop.signal_name = "SIGTERM"
    with pytest.raises(Stopped):
        train("sdpo", made, say=say_nothing, stop=stop)
    tensors = load_file(moved / "model.safetensors")
    name = min(tensors)
    tensors[name] = tensors[name] + 1
    save_file(tensors, moved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="must have the base model it started with"):
        resume(only_run(made), say=say_nothing)


OUT_OF_MEMORY = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 9.50 GiB of which 1.00 GiB "
    "is free. Of the allocated memory 7.00 GiB is allocated by PyTorch. If reserved but unallocated memory is "
    "large try setting PYTORCH_CUDA_ALLOC_CONF"
)


def test_a_step_that_memory_cannot_hold_is_one_line_that_says_what_takes_less(options, monkeypatch):
    chosen = options(gradient_checkpointing=False)
    backward = trainer.step.loss_trainer.BenchTrainer.training_step
    calls = []

    def exhausted(self, *args, **kwargs):
        calls.append(None)
        if self.state.global_step == 2:
            raise OUT_OF_MEMORY
        return backward(self, *args, **kwargs)

    monkeypatch.setattr(trainer.step.loss_trainer.BenchTrainer, "training_step", exhausted)
    with pytest.raises(ConfigError) as caught:
        train("sdpo", chosen, say=say_nothing)
    line = str(caught.value)
    assert (
        "memory must hold a training step, got CUDA out of memory. Tried to allocate 2.00" in line
    )
    assert "which 1.00 GiB is free; what takes less:" in line
    assert "gradient_checkpointing true" in line and "max_completion_length under 8" in line
    assert "load_in_4bit" not in line  # that needs a GPU
    run_dir = only_run(chosen)
    assert f"the state of step 2 is saved, `sdpo-bench train --resume {run_dir}` goes on" in line

    monkeypatch.setattr(trainer.step.loss_trainer.BenchTrainer, "training_step", backward)
    assert resume(run_dir, say=say_nothing).n_steps == 3


def test_a_fault_that_is_waited_out_is_told_to_who_asked_for_warnings_alone(options, monkeypatch):
    """The demo shows bars in place of lines; a full disk made it wait without a word."""
    fail_between(monkeypatch, trainer.rollouts.rollouts, "grade", 2, 2)
    said, warned = [], []
    chosen = options(fault_patience_s=0.02)
    assert train("sdpo", chosen, say=said.append, warn=warned.append).n_steps == 3
    (line,) = warned
    assert "grading failed: the engine must answer" in line and "trying again" in line
    assert not any("trying again" in other for other in said)
