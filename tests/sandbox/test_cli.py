import json
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from sandbox.cli import sandbox
from sandbox.containers import image
from sandbox.measuring import bench


def invoke(*arguments):
    return CliRunner().invoke(sandbox, list(arguments))


def test_help_is_there_for_every_command_with_an_example():
    for name in sandbox.commands:
        run = invoke(name, "--help")
        assert run.exit_code == 0 and "Example:" in run.output and "\\b" not in run.output, name


def test_the_commands_load_nothing_heavy():
    heavy = ("docker", "requests", "sandbox.pool.pool")
    code = f"import sys, sandbox.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", [("build",), ("up",), ("down",), ("bench",)])
def test_no_engine_is_one_line(command, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    run = invoke(*command)
    assert run.exit_code == 1 and "a Docker engine must answer" in run.output
    assert run.output.count("\n") == 1


def test_building_may_do_without_an_engine(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    run = invoke("build", "--if-docker")
    assert run.exit_code == 0 and run.output.count("\n") == 1


def test_the_doctor_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    run = invoke("doctor")
    assert (
        run.exit_code == 1 and "FAIL" in run.output and "a Docker engine must answer" in run.output
    )


def test_no_standing_container_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("SDPO_BENCH_SANDBOX_DIR", str(tmp_path))
    out = tmp_path / "status.json"
    run = invoke("status", "--json", str(out))
    assert run.exit_code == 0 and "no container answers" in run.output
    assert json.loads(out.read_text()) == {"containers": []}


def test_the_image_holds_the_guest_and_nothing_else():
    files = {str(file) for file in image.copied_files()}
    assert "sandbox/__init__.py" in files and "sandbox/guest/child.py" in files
    assert all(f == "sandbox/__init__.py" or f.startswith("sandbox/guest/") for f in files)
    assert len(image.source_digest()) == 64


def test_a_table_becomes_markdown_and_a_chart():
    rows = [
        bench.Row("slow & steady", 5, 100.0, 120.0, 10.0, 90.0),
        bench.Row("fast", 5, 1.0, 2.0, 1000.0, 1.0),
    ]
    assert "| fast | 1.0 | 2.0 | 1000 | 1.0 | 100.0 |" in bench.markdown(rows)
    drawn = bench.svg(rows)
    assert drawn.startswith("<svg") and "slow &amp; steady" in drawn


def test_another_checkout_is_compared_in_pairs_of_rounds():
    ours = bench.Row("this sandbox", 3, 1.0, 1.0, 300.0, 2.0, (300.0, 30.0, 200.0), (2.0, 9.0, 3.0))
    other = bench.Row(
        "the sandbox of /other", 3, 1.0, 1.0, 200.0, 4.0, (200.0, 20.0, 50.0), (4.0, 9.0, 4.0)
    )
    assert bench.comparison([ours, other]) == (
        "this sandbox does 1.50 times the programs of the sandbox of /other for 0.75 times its CPU "
        "(medians of 3 pairs)"
    )
    assert bench.comparison([ours]) == ""


def test_a_soak_finds_growth():
    from sandbox.measuring.soak import SoakResult, _growth

    calm = SoakResult("x", fresh_cpu_ms=1.0, worn_cpu_ms=1.04, memory_bytes=(10**7, 10**7))
    assert _growth(calm) == []
    bad = SoakResult("x", wrong=1, fresh_cpu_ms=1.0, worn_cpu_ms=1.2, memory_bytes=(0, 10**7))
    bad.descriptors, bad.processes = (5, 6), (2, 3)
    assert _growth(bad) == [
        "wrong verdicts",
        "CPU time",
        "memory inside",
        "descriptors",
        "processes",
    ]


def test_a_short_soak_grows_nothing(monkeypatch):
    monkeypatch.setattr("sandbox.measuring.soak._BATCH", 50)
    run = invoke("soak", "--backend", "process", "--executions", "1000", "--max-seconds", "1")
    assert "0 wrong" in run.output and "descriptors" in run.output
    # processor time of so few programs says nothing; `make soak` compares that of many
    assert "nothing grew\n" in run.output or "grew: CPU time\n" in run.output


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.docker
def test_the_benchmark_measures_every_way(tmp_path):
    chart, out, other = tmp_path / "c.svg", tmp_path / "b.json", tmp_path / "other"
    # The same guest, so that its image is there.
    shutil.copytree(image.ROOT / "sandbox", other / "sandbox")
    shutil.copy(image.ROOT / "Dockerfile.sandbox", other)
    options = ("--chart", str(chart), "--json", str(out), "--against", str(other))
    run = invoke("bench", "--rounds", "2", *options)
    assert run.exit_code == 0, run.output
    assert f"times the programs of the sandbox of {other}" in run.output
    ways = {row["way"]: row for row in json.loads(out.read_text())["rows"]}
    assert len(ways) == 6 and all(row["cpu_ms"] > 0 for row in ways.values())
    # Twenty times as fast at load 10; what it must be on an idle machine, the page says.
    assert ways["this sandbox"]["per_second"] > ways["docker run, hardened"]["per_second"]


@pytest.mark.docker
def test_the_doctor_finds_everything_well():
    run = invoke("doctor")
    assert run.exit_code == 0 and "passes its canaries" in run.output
