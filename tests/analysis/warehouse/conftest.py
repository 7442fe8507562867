import pytest


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results" / "results.duckdb"
