"""What is refused leaves nothing: no run's folder, and of a run that is resumed no row more than before."""

import json
import shutil

import pytest

from analysis.journal.journal import StoreError
from evaluator.models.lora import ModelError
from evaluator.problems.mbpp import DatasetError
from tests.tiny_model import make_tiny_model
from tests.trainer.interrupting import InterruptAfter, Interrupted
from trainer.endings.resume import last_checkpoint
from trainer.options.config import ConfigError, parse_options
from trainer.training.train import resume, train

USER_ERRORS = (ConfigError, DatasetError, ModelError, StoreError)
KNOWN = "smollm2-135m"
"""A model of this name has a band, so that a run calibrates."""


pytestmark = pytest.mark.usefixtures("hashed_grades")


@pytest.fixture(scope="session")
def known_model(tiny_model, tmp_path_factory):
    return shutil.copytree(tiny_model, tmp_path_factory.mktemp("known") / KNOWN)


REFUSED = {
    "a number out of range": ("sdpo", {"temperature": 0}),
    "an option of another algorithm": ("sdpo", {"beta": 0.1}),
    "an option of another setting": ("sdpo", {"advantage_clip": 0.5}),
    "no such data": ("sdpo", {"dataset": "embedded/nothing"}),
    "no such data to evaluate on": ("sdpo", {"evaluate_every": 1, "eval_dataset": "nothing"}),
    "no such folder of data": ("sdpo", {"dataset": "full/train", "mbpp_dir": "absent"}),
    "fewer problems than a batch": ("sdpo", {"max_problems": 1}),
    "no model": ("sdpo", {"model_name_or_path": None}),
    "weights that lose the steps": ("grpo", {"use_peft": False, "dtype": "bfloat16"}),
    "half precision that a CPU would leave out": ("grpo", {"fp16": True}),
    "too long for the model": ("sdpo", {"max_completion_length": 2040}),
    "no such module": ("sdpo", {"lora_target_modules": ["nope"]}),
    "one module of two": ("grpo", {"lora_target_modules": ["q_proj", "nope"]}),
    "no such module to save": ("sdpo", {"lora_modules_to_save": ["nope"]}),
    "a module trained whole in a model of half precision": (
        "grpo",
        {"lora_modules_to_save": ["lm_head"], "dtype": "bfloat16"},
    ),
    "a pattern of no module": ("sdpo", {"lora_target_modules": [r".*\\.nope"]}),
    "no such schedule": ("sdpo", {"lr_scheduler_type": "zigzag"}),
    "a schedule without what it needs": ("sdpo", {"lr_scheduler_type": "cosine_with_min_lr"}),
    "a schedule's unknown option": ("grpo", {"lr_scheduler_kwargs": {"nope": 1}}),
    "an optimizer that is not installed": ("sdpo", {"optim": "adamw_apex_fused"}),
    "a loader without workers to keep": ("sdpo", {"dataloader_persistent_workers": True}),
    "a setting of the decoding that cannot be used": (
        "grpo",
        {"generation_kwargs": {"bad_words_ids": "x"}},
    ),
    "a kind of cache that there is not": ("sdpo", {"cache_implementation": "nope"}),
    "a model that is not known": ("sdpo", {"allow_uncalibrated": False}),
    "an audit with dropout": ("audit", {"lora_dropout": 0.1}),
    "an audit in a mixture of precisions": ("audit", {"bf16": True}),
    "an audit in half precision": ("audit", {"dtype": "bfloat16"}),
    "an anchor that is shown something": ("anchored", {}),
}


@pytest.mark.parametrize(("algorithm", "changes"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_one_line_and_leaves_no_run(config_file, tmp_path, algorithm, changes):
    with pytest.raises(USER_ERRORS) as error:
        train(algorithm, parse_options(config_file(**changes)), say=lambda _: None)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_problems_to_calibrate_on_that_are_not_there_are_found_before_the_run(
    config_file, known_model, tmp_path
):
    changes = {"model_name_or_path": str(known_model), "allow_uncalibrated": False}
    options = parse_options(config_file(**changes, eval_dataset="embedded/nothing"))
    with pytest.raises(DatasetError):
        train("sdpo", options, say=lambda _: None)
    assert not (tmp_path / "runs").exists()


def test_a_runs_folder_that_is_a_file_is_said(config_file, tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError):
        train("sdpo", parse_options(config_file()), say=lambda _: None)


def test_a_tokenizer_without_a_template_and_no_solved_examples_leave_no_run(
    config_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("MBPP_DIR", str(tmp_path / "none"))
    model = make_tiny_model(tmp_path / "bare", chat_template=False)
    with pytest.raises(DatasetError, match="without a chat template .* prompt_template"):
        train("sdpo", parse_options(config_file(model_name_or_path=str(model))), say=print)
    assert not (tmp_path / "runs").exists()


def interrupted(config, tmp_path):
    """The folder of a run that ended after its first step."""
    with pytest.raises(Interrupted):
        train(
            "sdpo",
            parse_options(config),
            say=lambda _: None,
            prepare=lambda t: t.add_callback(InterruptAfter(1)),
        )
    (run_dir,) = (tmp_path / "runs").iterdir()
    return run_dir


def refuses(run_dir, said):
    """To resume the run is refused in one line, and there is no row more in it than before."""
    before = {p.name: p.stat().st_size for p in run_dir.glob("segment-*")}
    with pytest.raises(USER_ERRORS, match=said) as error:
        resume(run_dir, say=lambda _: None)
    assert "\n" not in str(error.value)
    assert {p.name: p.stat().st_size for p in run_dir.glob("segment-*")} == before


@pytest.mark.parametrize("what", ["problems", pytest.param("words", marks=pytest.mark.slow)])
def test_a_run_does_not_go_on_with_other_problems_or_in_other_words(
    config_file, tmp_path, hashed_grades, monkeypatch, what
):
    problems, words = tmp_path / "own.jsonl", tmp_path / "words.txt"
    row = {"prompt": "Add two numbers.", "tests": ["assert add(1, 2) == 3"]}
    problems.write_text("".join(json.dumps({**row, "task_id": n}) + "\n" for n in range(4)))
    words.write_text("Write {name}: {text}\n{tests}")
    config = config_file(
        dataset=str(problems), prompt_template=str(words), save_strategy="steps", save_steps=1
    )
    run_dir = interrupted(config, tmp_path)
    if what == "problems":
        problems.write_text(problems.read_text().replace('3"]', '4"]'))
        refuses(run_dir, "must ask the problems it began with, got others in .*; restore them")
        # the file restored, and another sandbox: that is said, and no ground to refuse
        problems.write_text(problems.read_text().replace('4"]', '3"]'))
        monkeypatch.setattr(hashed_grades, "name", "other")
        lines = []
        assert resume(run_dir, say=lines.append).n_steps == 2
        assert "programs were judged by fake, and are by other now" in lines
    else:
        words.write_text("Please write {name}: {text}\n{tests}")
        refuses(
            run_dir, "must ask in the words it began with, got others in .*; restore the prompt"
        )


@pytest.mark.parametrize(
    "missing",
    [
        "optimizer.pt",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("position-0.pt", "teacher.safetensors")
        ),
    ],
)
def test_a_checkpoint_that_lacks_something_is_one_line_and_no_row_more(
    config_file, tmp_path, missing
):
    run_dir = interrupted(config_file(save_strategy="steps", save_steps=1), tmp_path)
    (last_checkpoint(run_dir) / missing).unlink()
    refuses(run_dir, f"a checkpoint must hold {missing}, got none")
