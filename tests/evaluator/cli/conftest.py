"""The command in this process, with a sandbox of trusted answers."""

import pytest
from click.testing import CliRunner

from evaluator.cli import sources
from sdpo_bench import main
from tests.evaluator.conftest import FakeSandbox


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Call `sdpo-bench eval` with a sandbox of trusted answers and its own folder."""
    monkeypatch.setattr(sources, "open_sandbox", lambda backend: FakeSandbox())
    monkeypatch.delenv("MBPP_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def call(*options, dataset="embedded/test"):
        words = ["eval", "--dataset", dataset, *map(str, options)]
        return CliRunner().invoke(main, words, catch_exceptions=False)

    return call
