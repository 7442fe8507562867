"""A polite stop: what the signals and the end of a step do, without a training run."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest
import torch

from trainer.endings.stop import SIGNALS, StopAtStepEnd, StopRequest


def test_the_first_signal_asks_and_the_second_interrupts_and_both_mean_the_same_as_before_afterwards():
    before = [signal.getsignal(number) for number in SIGNALS]
    request = StopRequest()
    request.waits = True
    with pytest.raises(KeyboardInterrupt), request.installed():
        assert not request.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.requested and request.signal_name == "SIGTERM"
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_before_there_is_a_step_to_finish_a_signal_interrupts_at_once():
    request = StopRequest()
    with pytest.raises(KeyboardInterrupt), request.installed():
        os.kill(os.getpid(), signal.SIGINT)
    assert not request.requested


def test_a_step_that_begins_is_told_with_the_length_of_the_one_before(monkeypatch):
    told = []
    monkeypatch.setattr("trainer.endings.stop.tell", lambda **content: told.append(content))
    accelerator = SimpleNamespace(device="cpu", gather=lambda asked: asked)
    callback = StopAtStepEnd(StopRequest(), accelerator)
    for step in range(2):
        callback.on_step_begin(None, SimpleNamespace(global_step=step), None)
        callback.on_step_end(None, None, None)
    assert [content["doing"] for content in told] == ["step 1", "step 2"]
    assert told[0]["usual_s"] is None and 0 <= told[1]["usual_s"] < 5
    assert told[0]["since"] <= told[1]["since"]


def test_a_thread_leaves_the_signals_alone():
    seen = []

    def work():
        with StopRequest().installed():
            seen.append([signal.getsignal(number) for number in SIGNALS])

    before = [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [(None, 0, None), ("SIGTERM", 0, "SIGTERM"), (None, 1, "a signal to another process")],
)
def test_a_step_ends_the_run_and_saves_it_where_any_process_was_asked(mine, others, expected):
    request = StopRequest()
    request.signal_name = mine
    accelerator = SimpleNamespace(
        device="cpu", gather=lambda asked: torch.stack([asked, torch.tensor(others)])
    )
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    StopAtStepEnd(request, accelerator).on_step_end(None, None, control)
    assert request.signal_name == expected
    assert control.should_save == control.should_training_stop == (expected is not None)
