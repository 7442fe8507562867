import functools
import gc
import json
from types import SimpleNamespace

import pytest
import yaml

from analysis.provenance import git_state
from tests.tiny_model import make_tiny_model
from tests.trainer.fakes import HashSandbox


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A tiny model that ends at any of A to H: its completions are of many lengths."""
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    path = folder / "generation_config.json"
    own = json.loads(path.read_text())
    own["eos_token_id"] = [own["eos_token_id"], *range(32, 40)]
    path.write_text(json.dumps(own))
    gc.freeze()  # the modules of a model are imported where the first one is made
    return folder


@pytest.fixture
def hashed_grades(monkeypatch):
    """Grades by a hash of the text: a random model's bytes then pass some asserts and fail others."""
    sandbox = HashSandbox()
    monkeypatch.setattr("trainer.rollouts.rollouts.grade", sandbox.grade)
    monkeypatch.setattr("trainer.training.train.open_sandbox", lambda _: sandbox)
    return sandbox


same_checkout = functools.cache(git_state)


@pytest.fixture
def quick_runs(monkeypatch):
    """Runs without what takes a quarter of their time and nobody reads here.

    That is PEFT's card, git's word, the disk's, and a whole collection of garbage when a trainer ends.
    """
    monkeypatch.setattr("accelerate.utils.memory.gc", SimpleNamespace(collect=lambda: None))
    monkeypatch.setattr("peft.PeftModel.create_or_update_model_card", lambda *_: None)
    monkeypatch.setattr("analysis.provenance.git_state", same_checkout)
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def config_file(tmp_path, tiny_model, quick_runs):
    """Writes a configuration of two steps with the tiny model, and anything else a test wants."""

    def write(**changes):
        options = {
            "model_name_or_path": str(tiny_model),
            "use_peft": True,
            "lora_r": 4,
            "lora_dropout": 0.0,
            "lora_target_modules": ["all-linear"],
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "dataset": "embedded/train",
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "num_generations": 4,
            "max_completion_length": 12,
            "temperature": 0.7,
            "learning_rate": 0.01,
            "max_steps": 2,
            "seed": 7,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "evaluate_every": 0,
            "allow_uncalibrated": True,
            "fault_patience_s": 0.0,
            "distill_top_k": 10,
            "sandbox": "process",
            "runs_dir": str(tmp_path / "runs"),
            **changes,
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(options))
        return path

    return write
