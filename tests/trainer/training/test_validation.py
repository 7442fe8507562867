"""Evaluations on the way of a run that is interrupted more than once."""

import json
from collections import Counter

import pytest
from transformers import TrainerCallback

from tests.trainer.finished import Finished
from tests.trainer.interrupting import Interrupted
from trainer.endings.stop import Stopped, StopRequest
from trainer.options.config import parse_options
from trainer.training.train import resume, train

pytestmark = pytest.mark.usefixtures("hashed_grades")


class Killed(TrainerCallback):
    """Ends the run after an evaluation and before the checkpoint of its step."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            raise Interrupted


class StopIn(TrainerCallback):
    """Asks for a stop within a step, so that its evaluation is left to the resumed run."""

    def __init__(self, stop):
        self.stop = stop

    def on_step_begin(self, args, state, control, **kwargs):
        self.stop.signal_name = "SIGTERM"


def test_an_evaluation_whose_rows_a_resume_dropped_is_made_again_however_often_it_is_cut_off(
    config_file, hashed_grades, monkeypatch, tmp_path
):
    monkeypatch.setattr("evaluator.evaluation.evaluate.grade", hashed_grades.grade)
    given = {"evaluate_every": 2, "eval_dataset": "embedded/test", "eval_max_problems": 1}
    options = parse_options(
        config_file(**given, max_completion_length=4, save_strategy="steps", save_steps=1)
    )
    with pytest.raises(Interrupted):
        train(
            "sft",
            options,
            say=lambda _: None,
            prepare=lambda trainer: trainer.add_callback(Killed()),
        )
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert json.loads((run_dir / "evaluated.json").read_text()) == [0, 2]
    stop = StopRequest()
    with pytest.raises(Stopped):
        resume(
            run_dir,
            say=lambda _: None,
            stop=stop,
            prepare=lambda trainer: trainer.add_callback(StopIn(stop)),
        )
    result = resume(run_dir, say=lambda _: None)
    assert [step for step, _ in result.evaluations] == [2]
    rows = Counter(row["eval_id"] for row in Finished(result).rows["evals"])
    assert rows == {"step-0": 1, "step-2": 2}, "one of them before the second attempt"


def test_what_narrows_the_rollouts_narrows_the_sampled_answers_of_an_evaluation_too(
    config_file, hashed_grades, monkeypatch
):
    monkeypatch.setattr("evaluator.evaluation.evaluate.grade", hashed_grades.grade)
    options = parse_options(
        config_file(
            evaluate_every=1,
            eval_dataset="embedded/test",
            eval_max_problems=2,
            eval_samples=2,
            max_completion_length=6,
            max_steps=1,
            top_k=3,
            generation_kwargs={"suppress_tokens": list(range(3, 517))},
        )
    )
    finished = Finished(train("grpo", options, say=lambda _: None))
    sampled = [row for row in finished.rows["eval_results"] if "sampled" in row["eval_id"]]
    rows = [*sampled, *finished.rows["rollouts"]]
    assert len(sampled) == 8 and len(rows) == 16
    assert all(set(row["completion"]) <= set('!"#') for row in rows), "the first three tokens"
    said = {row["decoding"] for row in finished.rows["evals"]}
    assert any("top_k 3, suppress_tokens [3, 4, " in one for one in said)
