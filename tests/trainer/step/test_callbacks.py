"""What is said and checked around an optimizer step, with callbacks that are called by hand."""

import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainer.step.callbacks import NonFinite, ProgressLine, StopOnNonFinite, TeacherUpdate


def state(step=1, *, of=10, is_main=True):
    return SimpleNamespace(global_step=step, max_steps=of, is_world_process_zero=is_main)


LOGS = {
    "time/sampling_s": 30.0,
    "time/student_s": 20.0,
    "time/teacher_s": 10.0,
    "time/rest_s": 40.0,
    "reward": 0.456,
    "rewards/correctness/mean": 0.25,
    "loss": 0.12345,
    "teacher/reprompted_fraction": 0.5,
    "grad_norm": 1.5,
    "completions/mean_length": 17.6,
}


def said(*logs, **options):
    lines = []
    progress = ProgressLine(lines.append)
    for step, content in enumerate(logs, start=1):
        progress.on_log(None, state(step, **options), None, logs=content)
    return lines


def test_a_steps_line_has_its_figures_its_largest_shares_of_time_and_what_is_left():
    # 100 s a step, nine to go: 15 minutes; then 80 s on average, eight to go: 640 s
    first, second = said(LOGS, {"time/student_s": 60.0, "loss": 1.0})
    assert first == (
        "step 1/10: reward 0.46, correct 25%, loss 0.1235, taught 50%, gradient 1.500, 18 tokens, "
        "100.0 s (rest 40%, sampling 30%, student 20%), 15 min left"
    )
    assert second == "step 2/10: loss 1.0000, 60.0 s (student 100%), 11 min left"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(29, "0 min"), (59 * 60, "59 min"), (3600, "1 h 00 min"), (9000, "2 h 30 min")]
)  # fmt: skip
def test_the_time_left_is_in_minutes_and_from_an_hour_on_in_hours(seconds, expected):
    (line,) = said({"time/student_s": float(seconds)}, of=2)
    assert line.endswith(f", {expected} left")


def test_the_summary_that_ends_a_run_and_other_processes_say_nothing():
    assert said({"train_runtime": 1.0, **LOGS}) == []
    assert said(None) == []
    assert said(LOGS, is_main=False) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_gradient_that_is_not_finite_stops_the_run_and_is_named_with_its_step(value):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    check = StopOnNonFinite()
    check.on_pre_optimizer_step(None, state(), None, model=model)
    model(torch.ones(1, 2)).sum().backward()
    check.on_pre_optimizer_step(None, state(), None, model=model)
    model[1].weight.grad[0, 1] = value
    with pytest.raises(NonFinite, match=r"got 1\.weight at step 5; "):
        check.on_pre_optimizer_step(None, state(4), None, model=model)


class CountingTeacher:
    def __init__(self):
        self.n_updates, self.saved = 0, []

    def update(self):
        self.n_updates += 1

    def save(self, folder):
        self.saved.append(os.fspath(folder))


def test_the_teacher_moves_once_in_a_step_that_used_rollout_batches_up_and_goes_with_a_checkpoint():
    teacher, used, asked = CountingTeacher(), [3], []

    def patience(work, what):
        asked.append(what)
        return work()

    update = TeacherUpdate(teacher, n_used_rollouts=lambda: used[0], patience=patience)
    for used_up, n_updates in ((0, 0), (1, 1), (2, 2), (0, 2)):
        update.on_step_begin(None, state(), None)
        used[0] += used_up
        update.on_step_end(None, state(), None)
        assert teacher.n_updates == n_updates
    args = SimpleNamespace(output_dir="runs/x")
    update.on_save(args, state(7), None)
    update.on_save(args, state(8, is_main=False), None)
    assert teacher.saved == [os.path.join("runs", "x", "checkpoint-7")]
    assert asked == ["saving the teacher"]
