"""Each way a run ends has its exit status, and its line for the person at the terminal."""

import math

import pytest

from analysis.journal.journal import StoreError
from trainer.audit.checks import Auditor, Layer
from trainer.cli.train import _run
from trainer.endings import exit_codes
from trainer.endings.faults import OutsideFault
from trainer.endings.stop import Stopped
from trainer.losses.sdpo import Distillation
from trainer.options.config import ConfigError
from trainer.step.callbacks import NonFinite, ProgressLine
from trainer.teacher.prompt import TeacherRules
from trainer.training.calibration import Uncalibrated
from trainer.training.train import RunResult


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("a"), exit_codes.FAILED),
        (StoreError("a"), exit_codes.FAILED),
        (NonFinite("a"), exit_codes.NON_FINITE),
        (OutsideFault("a"), exit_codes.FAULT),
        (Stopped("a"), exit_codes.STOPPED),
        (Uncalibrated("a\n  NameError 3"), exit_codes.UNCALIBRATED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_has_a_status_of_its_own(monkeypatch, tmp_path, capsys, error, status):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("trainer.training.train.resume", fail)
    assert _run(None, None, tmp_path, []) == (status, None)
    assert capsys.readouterr().err == f"Error: {error}\n"


def test_the_statuses_differ():
    values = [value for name, value in vars(exit_codes).items() if name.isupper()]
    assert len(values) == len(set(values)) == 8


def test_a_bug_keeps_its_traceback(monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("trainer.training.train.resume", fail)
    with pytest.raises(ZeroDivisionError):
        _run(None, None, tmp_path, [])


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (False, 1)])
def test_an_audit_that_fails_a_layer_fails_loudly(monkeypatch, tmp_path, capsys, passed, status):
    layers = (
        Layer("loss", 9, "loss.value", 3e-7, 1e-6, True),
        Layer("ema", 9, "ema", 2e-3, 1e-6, passed),
    )
    result = RunResult(tmp_path, tmp_path / "adapter", 5, (), layers)
    monkeypatch.setattr("trainer.training.train.resume", lambda *args, **kwargs: result)
    assert _run(None, None, tmp_path, []) == (status, str(tmp_path))
    said = capsys.readouterr().out
    assert ("ema          FAIL" in said) != passed
    assert "9 checks, the worst loss.value: 3.0e-07 (threshold 1e-06)" in said


@pytest.mark.parametrize("is_adapter", [True, False])
def test_what_is_proposed_next_evaluates_what_was_trained(
    monkeypatch, tmp_path, capsys, is_adapter
):
    saved = tmp_path / "adapter"
    saved.mkdir()
    (saved / ("adapter_config.json" if is_adapter else "config.json")).write_text("{}")
    result = RunResult(tmp_path, saved, 5, (), ())
    monkeypatch.setattr("trainer.training.train.resume", lambda *args, **kwargs: result)
    _run(None, None, tmp_path, [])
    option = "--adapter" if is_adapter else "--model"
    assert f"next:    sdpo-bench eval {option} {saved} " in capsys.readouterr().out


def test_the_line_of_a_layer_shows_the_check_that_is_worst_by_its_own_threshold():
    rows = []
    auditor = Auditor(
        Distillation(),
        TeacherRules(),
        aggregation="token_mean",
        padded_length=4,
        record=rows.append,
    )
    for layer, delta, threshold in (
        ("loss.value", 3.9e-9, 1e-6), ("loss.student_logits", 1.42, 1e-5), ("loss.teacher_logits", 2.0, 9.0),
        ("ema", 1e-9, 1e-6), ("ema", float("nan"), 1e-6), ("teacher", 0.0, 0.0),
    ):  # fmt: skip
        auditor._note(layer, delta, threshold, step=len(rows))
    layers = {layer.name: layer for layer in auditor.layers()}
    assert (layers["loss"].worst, layers["loss"].largest) == ("loss.student_logits", 1.42)
    assert layers["loss"].threshold == 1e-5 and not layers["loss"].passed
    assert math.isnan(layers["ema"].largest) and not layers["ema"].passed
    assert layers["teacher"].passed and layers["teacher"].n_checks == 1
    assert not layers["trl"].passed, "a layer that never ran has not passed"


def test_two_checks_with_one_key_are_a_bug():
    auditor = Auditor(
        Distillation(), TeacherRules(), aggregation="token_mean", padded_length=4, record=print
    )
    auditor._note("loss.value", 0.0, 1.0, step=1)
    with pytest.raises(RuntimeError, match="a row of its own"):
        auditor._note("loss.value", 0.0, 1.0, step=1)


def test_the_progress_line_says_where_the_time_went_and_what_is_left():
    said = []

    class State:
        is_world_process_zero, global_step, max_steps = True, 3, 63

    logs = {
        "step_time": 100.0, "reward": 0.5, "rewards/correctness/mean": 0.25, "loss": 0.0301,
        "grad_norm": 0.05, "completions/mean_length": 64.0, "teacher/reprompted_fraction": 1.0,
        "time/sampling_s": 60.0, "time/student_s": 50.0, "time/teacher_s": 9.0, "time/rest_s": 1.0,
    }  # fmt: skip
    ProgressLine(said.append).on_log(None, State(), None, logs=logs)
    assert said == [
        "step 3/63: reward 0.50, correct 25%, loss 0.0301, taught 100%, gradient 0.050, 64 tokens, "
        "120.0 s (sampling 50%, student 42%, teacher 8%), 2 h 00 min left"
    ]
