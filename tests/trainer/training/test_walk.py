"""Options in combinations that nobody chose: every row is kept, every figure is one, and a resumed run is the same."""

from random import Random

import pytest

from evaluator.models.lora import ModelError
from evaluator.problems.mbpp import load_problems
from tests.trainer.finished import Finished
from tests.trainer.interrupting import InterruptAfter, Interrupted
from tests.trainer.outcomes import outcome
from tests.trainer.walking import check_rows, draw
from trainer.options.config import ConfigError, parse_options
from trainer.training.train import resume, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def start(config_file, hashed_grades, monkeypatch, tmp_path):
    monkeypatch.setattr("evaluator.evaluation.evaluate.grade", hashed_grades.grade)

    def go(algorithm, name, prepare=None, **changes):
        given = {
            "max_completion_length": 6,
            "eval_dataset": "embedded/test",
            "eval_max_problems": 2,
        }
        options = parse_options(config_file(**given | changes, runs_dir=str(tmp_path / name)))
        return options, train(algorithm, options, say=lambda _: None, prepare=prepare)

    return go


@pytest.mark.parametrize("number", range(24))
def test_a_run_of_any_options_is_refused_in_one_line_or_keeps_all_and_resumes_to_the_bit(
    start, tmp_path, number
):
    rng = Random(f"walk {number}")
    algorithm, changes = draw(rng)
    try:
        options, result = start(algorithm, "whole", **changes)
    except (ConfigError, ModelError) as error:
        assert "\n" not in str(error) and not (tmp_path / "whole").exists()
        return
    n_problems = len(load_problems("embedded/train", limit=options.bench.max_problems).problems)
    rows = Finished(result).rows
    check_rows(rows, options.training, n_steps=result.n_steps, n_problems=n_problems)
    if result.n_steps == 1:
        return

    trainers = []

    def cut_off(trainer):
        trainers.append(trainer)
        trainer.add_callback(InterruptAfter(rng.randrange(1, result.n_steps)))

    saving = {"save_strategy": "steps", "save_steps": 1}
    with pytest.raises(Interrupted):
        start(algorithm, "resumed", cut_off, **changes | saving)
    resume(trainers[0].journal.run_dir, say=lambda _: None)
    assert outcome(tmp_path / "resumed") == outcome(tmp_path / "whole")
