"""Each way a run ends has its exit status, and its line for the person at the terminal."""

import pytest

from analysis.journal import StoreError
from trainer import exit_codes
from trainer.audit import Layer
from trainer.calibration import Uncalibrated
from trainer.callbacks import NonFinite, ProgressLine
from trainer.cli import _run
from trainer.config import ConfigError
from trainer.faults import OutsideFault
from trainer.run import RunResult
from trainer.stopping import Stopped


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

    monkeypatch.setattr("trainer.run.resume", fail)
    assert _run(None, None, tmp_path, []) == (status, None)
    assert capsys.readouterr().err == f"Error: {error}\n"


def test_the_statuses_differ():
    values = [value for name, value in vars(exit_codes).items() if name.isupper()]
    assert len(values) == len(set(values)) == 7


def test_a_bug_keeps_its_traceback(monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("trainer.run.resume", fail)
    with pytest.raises(ZeroDivisionError):
        _run(None, None, tmp_path, [])


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (False, 1)])
def test_an_audit_that_fails_a_layer_fails_loudly(monkeypatch, tmp_path, capsys, passed, status):
    layers = (Layer("loss", 9, 3e-7, 1e-6, True), Layer("ema", 9, 2e-3, 1e-6, passed))
    result = RunResult(tmp_path, tmp_path / "adapter", 5, (), layers)
    monkeypatch.setattr("trainer.run.resume", lambda *args, **kwargs: result)
    assert _run(None, None, tmp_path, []) == (status, str(tmp_path))
    assert ("ema          FAIL" in capsys.readouterr().out) != passed


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
