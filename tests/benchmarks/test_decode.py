import re

from click.testing import CliRunner
from transformers.modeling_utils import AttentionInterface

from benchmarks.decode import main
from tests.tiny_model import make_tiny_model


def test_both_forms_are_measured_in_turns(tmp_path, monkeypatch):
    monkeypatch.setattr(
        AttentionInterface, "_global_mapping", dict(AttentionInterface._global_mapping)
    )
    folder = make_tiny_model(tmp_path / "tiny")
    words = ["--model", str(folder), "--dtype", "float32", "--rows", "2", "--tokens", "3"]
    found = CliRunner().invoke(main, [*words, "--rounds", "2"], catch_exceptions=False)
    line = r"round \d: repeated \d+\.\d\d s, shared \d+\.\d\d s, ratio \d+\.\d\d\n"
    assert re.fullmatch(line * 2, found.output)
