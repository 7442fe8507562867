"""Journals and results files that are damaged, shortened, removed, or of another version."""

import shutil

import duckdb
import pytest

from analysis.journal.journal import StoreError, segments
from analysis.journal.lines import encode
from analysis.warehouse.warehouse import ingest
from tests.analysis.warehouse.stored import rows, write


def test_a_damaged_line_is_reported_with_file_and_offset_and_the_rest_is_there(runs, results):
    write(runs, values=(1.0, 2.0, 3.0))
    _, path = segments(runs / "a")[0]
    damaged = path.read_bytes().replace(b'"value":2.0', b'"value":7.0')
    offset = damaged.rindex(b"\n", 0, damaged.index(b'"value":7.0')) + 1
    path.write_bytes(damaged)
    report = ingest(runs, results)
    assert report.problems == [
        f"{path}: damaged line at byte {offset}: checksum differs from the line's content"
    ]
    assert rows(results, "SELECT value FROM metrics ORDER BY 1") == [(1.0,), (3.0,)]
    assert "left out before" in ingest(runs, results).problems[0]


def test_a_run_of_a_newer_version_is_left_out_with_one_line_and_the_others_are_there(runs, results):
    write(runs, "new")
    write(runs, "old")
    path = runs / "new" / "run.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    report = ingest(runs, results)
    assert len(report.problems) == 1
    assert "schema version 1 or earlier" in report.problems[0]
    assert rows(results, "SELECT run_id FROM runs") == [("old",)]


def test_a_file_of_a_newer_version_waits_for_a_program_that_reads_it(runs, results):
    write(runs, values=(1.0,))
    newer = runs / "a" / "segment-0001-1.jsonl"
    newer.write_bytes(
        encode(
            "segment",
            b'{"schema_version":2,"run_id":"a","attempt":1,"pid":1,"host":"h","opened_at":"t"}',
        )
        + encode("metrics", b'{"step":2,"name":"loss","value":2.0}')
    )
    report = ingest(runs, results)
    assert "upgrade sdpo-bench" in report.problems[0]
    assert rows(results, "SELECT value FROM metrics") == [(1.0,)]
    newer.write_bytes(newer.read_bytes()[:0])
    assert ingest(runs, results).problems == []


def test_a_row_of_an_earlier_form_without_a_later_field_is_read(runs, results):
    write(runs, values=())
    _, path = segments(runs / "a")[0]
    with path.open("ab") as file:
        file.write(encode("artifacts", b'{"path":"adapter","kind":"adapter","n_bytes":3}'))
    assert ingest(runs, results).problems == []
    assert rows(results, "SELECT path, step, sha256 FROM artifacts") == [("adapter", None, None)]


def test_a_line_of_no_table_is_damage(runs, results):
    write(runs, values=(1.0,))
    _, path = segments(runs / "a")[0]
    with path.open("ab") as file:
        file.write(encode("metric", b'{"step":1}'))
    assert "no table is called 'metric'" in ingest(runs, results).problems[0]


def test_a_deleted_run_keeps_its_rows_until_a_rebuild(runs, results):
    write(runs, "a")
    write(runs, "b")
    ingest(runs, results)
    shutil.rmtree(runs / "a")
    report = ingest(runs, results)
    assert report.problems == []
    assert "(a): deleted" in report.notices[0]
    assert rows(results, "SELECT run_id FROM metrics ORDER BY 1") == [("a",), ("b",)]
    ingest(runs, results, rebuild=True)
    assert rows(results, "SELECT run_id FROM metrics") == [("b",)]


def test_two_folders_of_one_run_id_are_not_mixed(runs, results):
    write(runs, "a", values=(1.0,))
    shutil.copytree(runs / "a", runs / "copy")
    report = ingest(runs, results)
    assert "run ids must be unique, got 'a' again" in report.problems[0]
    assert rows(results, "SELECT count(*) FROM metrics") == [(1,)]


def test_a_file_that_got_shorter_is_read_again_from_its_start(runs, results):
    write(runs, values=(1.0, 2.0))
    ingest(runs, results)
    _, path = segments(runs / "a")[0]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    ingest(runs, results)
    assert rows(results, "SELECT value FROM metrics") == [(1.0,)]


def test_a_results_file_of_another_form_is_rebuilt(runs, results):
    write(runs)
    ingest(runs, results)
    with duckdb.connect(str(results)) as connection:
        connection.execute("UPDATE warehouse SET schema_sha256 = 'other'")
    assert ingest(runs, results).rebuilt == "it was built by another version"
    assert rows(results, "SELECT count(*) FROM metrics") == [(1,)]


def test_a_rebuild_for_a_new_form_does_not_drop_runs_whose_folder_is_gone(runs, results):
    write(runs, "a")
    write(runs, "b")
    ingest(runs, results)
    with duckdb.connect(str(results)) as connection:
        connection.execute("UPDATE warehouse SET schema_sha256 = 'other'")
    shutil.rmtree(runs / "a")
    with pytest.raises(StoreError, match="got no folder for a; restore them"):
        ingest(runs, results)
    assert rows(results, "SELECT count(*) FROM metrics") == [(2,)]


def test_a_table_of_the_user_survives_an_ingest(runs, results):
    write(runs, "a")
    ingest(runs, results)
    with duckdb.connect(str(results)) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'keep me' AS note")
    write(runs, "b")
    ingest(runs, results)
    assert rows(results, "FROM notes") == [("keep me",)]
