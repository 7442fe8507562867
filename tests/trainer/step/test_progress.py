"""The line within a step: what it says, that it goes, and that counting completions changes no sample."""

import io
from types import SimpleNamespace

import torch

from trainer.step.progress import StepProgress, counted
from trainer.step.timing import PhaseClock


def state(step):
    return SimpleNamespace(global_step=step, max_steps=200)


def test_the_line_says_phase_count_and_what_is_left_and_goes_with_the_step():
    now = [0.0]
    stream = io.StringIO()
    progress = StepProgress(stream, now=lambda: now[0])
    clock = PhaseClock()
    clock.watch = progress.phase
    progress.on_step_begin(None, state(11), None)
    assert progress.line() == "step 12/200: beginning, 0 s so far"
    with clock("sampling"):
        progress.count("5 of 16")
        now[0] = 7.0
        assert progress.line() == "step 12/200: sampling 5 of 16, 7 s so far"
    with clock("sandbox"):
        assert progress.line() == "step 12/200: grading, 7 s so far"
    with clock("student"):
        assert progress.line().startswith("step 12/200: training,")
    now[0] = 40.0
    progress.draw()
    progress.on_step_end(None, state(12), None)
    assert progress.line() == "" and stream.getvalue().endswith("\r\x1b[K")
    progress.on_step_begin(None, state(12), None)
    now[0] = 50.0
    assert progress.line() == "step 13/200: beginning, about 30 s left in the step"
    now[0] = 100.0
    assert "about 1 s left" in progress.line()


def test_nothing_is_written_between_steps():
    stream = io.StringIO()
    StepProgress(stream).draw()
    assert stream.getvalue() == ""


class Model:
    """Writes the columns of `tokens`, asking the criteria after each."""

    def __init__(self, tokens):
        self.tokens = torch.tensor(tokens)

    def generate(self, *, stopping_criteria=None):
        for n in range(1, self.tokens.shape[1] + 1):
            if stopping_criteria is not None:
                assert not stopping_criteria(self.tokens[:, :n], None).any()
        return self.tokens


def test_completions_that_have_ended_are_counted_and_the_sampling_is_left_as_it_is():
    model, said = Model([[5, 2, 0], [5, 6, 2], [5, 6, 7]]), []
    with counted(model, [2, 3], said.append):
        assert model.generate() is model.tokens
    assert said == ["3 completions", "1 of 3", "2 of 3"]
    assert "generate" not in vars(model)
    with counted(model, [2], None):
        assert "generate" not in vars(model)
