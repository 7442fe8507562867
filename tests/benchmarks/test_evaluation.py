"""The benches measure what they say, and run."""

import re

import pytest
from click.testing import CliRunner

from benchmarks.evaluation import bench
from benchmarks.evaluation_overhead import Clock


def run(*options):
    result = CliRunner().invoke(bench, list(map(str, options)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_bare_generate_and_our_own_call_write_the_same(tiny_folder):
    out = run(
        *("sampling", "--model", tiny_folder, "--dataset", "embedded/test", "--device", "cpu"),
        *("--batches", 2, "--batch-size", 4, "--max-new-tokens", 12),
    )
    assert "8 of 8 texts without the stop rule equal those of bare generate" in out
    assert re.search(r"bare generate\s+\d+\.\d\s+1\.00", out)


def test_grading_tells_our_processor_time_from_that_of_the_programs():
    out = run("grading", "--dataset", "embedded/test", "--sandbox", "process", "--repeats", 2)
    assert "16 completions, 2 times, 2 workers, process" in out
    assert "0 programs took over 0.5 s" in out


def test_a_clock_adds_up():
    clock = Clock()
    assert clock.run(lambda: sum(range(200_000))) == 19999900000
    first = clock.cpu_s
    clock.run(lambda: sum(range(200_000)))
    assert 0 < first < clock.cpu_s
    assert clock.wall_s > 0


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.slow
def test_overhead_is_the_whole_less_its_parts(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = run(
        *("overhead", "--model", tiny_folder, "--dataset", "embedded/test"),
        *("--sandbox", "process"),
    )
    rows = [
        [float(cell) for cell in row.split()]
        for row in re.findall(r"(?:answers|time|again)\s+([\d. -]+)\n", out)
    ]
    assert len(rows) == 6, "three ways, wall and processor time"
    for whole, *parts in rows:
        assert whole == pytest.approx(sum(parts), abs=0.05)
        assert whole > 0.2
    recorded, first, _ = rows[:3]
    assert recorded[1:4] == [0.0] * 3, "nothing is sampled or loaded"
    assert all(seconds > 0 for seconds in first[1:4])
