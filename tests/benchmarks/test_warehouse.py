import json

import pytest
from click.testing import CliRunner

from benchmarks.warehouse import bench


@pytest.mark.alone
@pytest.mark.slow
def test_the_bench_measures_and_draws_each_size(tmp_path):
    result = CliRunner().invoke(
        bench,
        ["--size", "160", "--size", "320", "--json", str(tmp_path / "bench.json")]
        + ["--chart-dir", str(tmp_path), "--folder", str(tmp_path)],
    )
    assert result.exit_code == 0, result.output
    measured = json.loads((tmp_path / "bench.json").read_text())
    rows = measured["rows"]
    assert 0 < measured["report_mb"] < 5
    assert [row["n_rollouts"] for row in rows] == [160, 320]
    assert all(value > 0 for row in rows for value in row.values() if not isinstance(value, str))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bench.json",
        "bench_growth.png",
        "bench_growth.svg",
    ]
