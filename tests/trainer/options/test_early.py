"""What is found before anything heavy is imported: just as the parser would find it, and in the first second."""

import subprocess
import sys

import pytest
from trl import GRPOConfig, ModelConfig

from trainer.options import early, shipped
from trainer.options.config import BenchConfig, _Parser


def test_the_options_read_off_the_sources_are_those_of_the_parser():
    parser = _Parser((BenchConfig, GRPOConfig, ModelConfig), allow_abbrev=False)
    assert early.known_options() - {"config"} == {action.dest for action in parser._actions} - {
        "help"
    }


def test_a_class_that_has_moved_leaves_the_check_to_the_parser(monkeypatch):
    moved = (("trl", "trainer/elsewhere.py", "GRPOConfig"),)
    monkeypatch.setattr(early, "_CLASSES", moved)
    assert early.known_options() is None
    monkeypatch.setattr(early, "_CLASSES", (("trl", "trainer/grpo_config.py", "Other"),))
    assert early.known_options() is None


def test_an_extra_that_is_not_installed_is_a_missing_module(monkeypatch):
    monkeypatch.setattr(early, "_CLASSES", (("no_such_package", "x.py", "X"),))
    with pytest.raises(ModuleNotFoundError) as error:
        early.known_options()
    assert error.value.name == "no_such_package"


def test_every_shipped_configuration_passes_and_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    for name in shipped.names():
        for given in (name, f"{name}.yaml", f"configs/{name}.yaml"):
            assert (
                early.check_experiment(Path(given), needs_model=False)
                == shipped.folder() / f"{name}.yaml"
            )
    (tmp_path / "sdpo").write_text("seed: 1\n")
    assert early.check_experiment(Path("sdpo"), needs_model=False) == Path(
        "sdpo"
    )  # the user's own goes first
    assert shipped.config_path(Path("elsewhere/grpo.yaml")) == Path("elsewhere/grpo.yaml")


@pytest.mark.parametrize(
    "words", [["--no_use_feedback"], ["--learning-rate", "1e-5"], ["--lora_r=4"]]
)
def test_each_form_that_the_parser_takes_is_let_through(words):
    early.check_experiment(shipped.folder() / "sdpo.yaml", words)


WRONG = """
import sys
from click.testing import CliRunner
from sdpo_bench import main

for words in (
    ["train", "sdpo", "--config", "nope.yaml"],
    ["train", "sdpo", "--config", "sdpo", "--lerning_rate", "1"],
    ["train", "--resume", "nope"],
    ["solve", "--config", "nope.yaml", "--tasks", "1"],
    ["gap", "--model", "./nope"],
    ["reproduce", "--lerning_rate", "1"],
    ["demo", "--lerning_rate", "1"],
    ["eval", "--model", "./nope"],
    ["eval", "--adapter", "nope"],
    ["eval", "--completions", "nope.jsonl"],
):
    assert CliRunner().invoke(main, words).exit_code == 1, words
print({"torch", "transformers", "trl", "datasets"} & set(sys.modules))
"""


def test_no_wrong_path_or_key_waits_for_a_heavy_import(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WRONG], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "set()\n", done.stderr
