"""Damaged files, foreign bytes and a clock that goes back: what is whole is kept, what is not is told."""

import json
import random

import duckdb
import pytest

from analysis.journal.journal import Journal, StoreError, segments
from analysis.journal.lines import encode
from analysis.records import Metric
from analysis.warehouse.state import is_damage
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import synthetic_info
from tests.analysis.warehouse.stored import rows, write


@pytest.mark.parametrize("damage", ["header", "truncated"])
def test_a_damaged_results_file_is_rebuilt_from_the_journals_and_kept_aside(
    tmp_path, results, damage
):
    write(tmp_path / "runs", values=(1.0, 2.0))
    ingest(tmp_path / "runs", results)
    content = bytearray(results.read_bytes())
    match damage:
        case "header":
            content[4096 + 20] ^= 0xFF
            content[8192 + 20] ^= 0xFF
        case "truncated":
            content = content[: len(content) // 2]
    results.write_bytes(content)
    if damage != "truncated":  # found when a missing part is read
        with pytest.raises(StoreError, match="--rebuild") as caught:
            connect(results)
        assert "\n" not in str(caught.value)
    report = ingest(tmp_path / "runs", results)
    assert report.rebuilt.startswith("the file was damaged")
    assert rows(results, "SELECT count(*) FROM metrics") == [(2,)]
    aside = results.with_name("results.duckdb.damaged")
    assert aside.read_bytes() == bytes(content)


def test_a_flipped_byte_in_a_stored_row_is_noticed_when_it_is_read(tmp_path, results):
    from analysis.queries import run_query

    text = "needle-in-the-file-" * 400
    with Journal.create(tmp_path / "runs", synthetic_info("a")) as journal:
        journal.append(Metric(step=1, name=text, value=1.0))
    ingest(tmp_path / "runs", results)
    content = bytearray(results.read_bytes())
    place = content.find(b"needle-in-the-file")
    assert place > 0
    content[place] ^= 1
    results.write_bytes(content)
    with pytest.raises(StoreError, match="rebuild") as caught:
        with connect(results) as connection:
            run_query(connection, "SELECT name FROM metrics")
    assert "\n" not in str(caught.value)
    ingest(tmp_path / "runs", results, rebuild=True)
    assert rows(results, "SELECT name FROM metrics") == [(text,)]


@pytest.mark.slow
def test_a_byte_flipped_anywhere_in_the_results_is_found_or_changes_nothing(recorded_copy):
    """Some bytes of the file belong to no row; of every other one DuckDB has a checksum."""
    from analysis.warehouse.tables import record_tables

    runs, results = recorded_copy / "runs", recorded_copy / "results" / "results.duckdb"
    rng = random.Random(13)

    def everything():
        with connect(results) as connection:
            return {
                name: sorted(connection.execute(f'FROM "{name}"').fetchall(), key=repr)
                for name in ("runs", *record_tables())
            }

    whole, content, n_found = everything(), results.read_bytes(), 0
    for _ in range(60):
        flipped = bytearray(content)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        results.write_bytes(flipped)
        try:
            assert everything() == whole
        except (StoreError, duckdb.Error) as error:
            assert is_damage(error) or isinstance(error, StoreError), error
            n_found += 1
    assert n_found > 30
    ingest(runs, results, rebuild=True)
    assert everything() == whole


@pytest.mark.slow
def test_a_10_mb_completion_goes_through_to_sql_and_the_report(tmp_path, results):
    from analysis.records import Rollout
    from benchmarks.synthetic import step_records

    text = "x = 'é\x00<b>'\n" * 800_000
    with Journal.create(tmp_path / "runs", synthetic_info("a")) as journal:
        for record in step_records(random.Random(0), step=1, skill=0.5):
            if isinstance(record, Rollout):
                record = record.model_copy(update={"completion": text})
                journal.append(record)
                break
    assert ingest(tmp_path / "runs", results).problems == []
    assert len(text.encode()) > 10_000_000
    assert rows(results, "SELECT completion FROM rollouts") == [(text,)]
    pytest.importorskip("altair")
    from analysis.report.report import build_report

    with connect(results) as connection:
        assert len(build_report(connection)) < 1_000_000


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, results, monkeypatch):
    clock = iter(f"2026-01-0{9 - i // 3}T00:00:00.000+00:00" for i in range(20))
    monkeypatch.setattr("analysis.journal.journal._now", lambda: next(clock))
    runs = tmp_path / "runs"
    write(runs, values=(1.0,), step=0)
    with Journal.resume(runs / "a") as journal:
        journal.append(Metric(step=0, name="loss", value=2.0))
    ingest(runs, results)
    assert rows(results, "SELECT value FROM metrics") == [(2.0,)]
    assert rows(results, "SELECT state, n_attempts FROM run_overview") == [("finished", 2)]


def test_a_damaged_run_json_leaves_the_other_runs(tmp_path, results):
    write(tmp_path / "runs", "a")
    write(tmp_path / "runs", "b")
    (tmp_path / "runs" / "a" / "run.json").write_bytes(b'{"run_id": "a", \xff')
    report = ingest(tmp_path / "runs", results)
    assert len(report.problems) == 1
    assert "run.json must describe a run" in report.problems[0]
    assert "\n" not in report.problems[0]
    assert rows(results, "SELECT run_id FROM runs") == [("b",)]


def test_bytes_that_are_no_utf8_are_damage_and_nothing_else_is_lost(tmp_path, results):
    write(tmp_path / "runs", values=(1.0, 2.0))
    _, path = segments(tmp_path / "runs" / "a")[0]
    with path.open("ab") as file:
        file.write(b'\xff\xfe{"table"\n')
    report = ingest(tmp_path / "runs", results)
    assert "not a journal line" in report.problems[0]
    assert rows(results, "SELECT count(*) FROM metrics") == [(2,)]


NO_ROWS = {
    "a list": b"[]",
    "null": b"null",
    "nothing": b"",
    "half a row": b'{"step":1,"name":"q"',
    "text for a number": b'{"step":1,"name":"q","value":"abc"}',
    "a number of more than 64 bits": b'{"step":99999999999999999999,"name":"q","value":2}',
    "another encoding": b'{"step":1,"name":"\xff","value":2}',
    "a column of ours": b'{"step":1,"name":"q","value":2,"_run_id":"good","_position":0}',
}


def test_a_line_that_is_no_row_is_told_and_left_out_whatever_its_checksum(tmp_path):
    runs, results = tmp_path / "runs", tmp_path / "results.duckdb"
    rows = [*NO_ROWS.values(), b'{"step":7,"name":"later","value":2,"of a later version":[1]}']
    for run_id in ("bad", "good"):
        with Journal.create(runs, synthetic_info(run_id)) as journal:
            journal.append(Metric(step=1, name="reward", value=0.5))
    with next((runs / "bad").glob("segment*")).open("ab") as file:
        file.writelines(encode("metrics", row) for row in rows)
        file.write(encode("métriques", b"{}"))
    report = ingest(runs, results)
    assert len(report.problems) == len(NO_ROWS) + 1
    assert all("/bad/" in line and "damaged line" in line for line in report.problems)
    with connect(results) as connection:
        found = connection.execute("SELECT run_id, name FROM metrics ORDER BY ALL").fetchall()
    assert found == [("bad", "later"), ("bad", "reward"), ("good", "reward")]
    assert len(ingest(runs, results).problems) == len(report.problems), "told again"


@pytest.mark.parametrize("run_id", ['a"b', "../../x", "", "a\nb"])
def test_a_run_whose_id_is_no_file_name_blocks_no_other(tmp_path, run_id):
    runs = tmp_path / "runs"
    for name in ("bad", "good"):
        Journal.create(runs, synthetic_info(name)).close()
    content = json.loads((runs / "bad" / "run.json").read_text()) | {"run_id": run_id}
    (runs / "bad" / "run.json").write_text(json.dumps(content))
    (problem,) = ingest(runs, tmp_path / "r.duckdb").problems
    assert "plain file name" in problem
    with connect(tmp_path / "r.duckdb") as connection:
        assert connection.execute("SELECT run_id FROM runs").fetchall() == [("good",)]
