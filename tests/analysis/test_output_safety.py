"""Text of a model and names of files reach a terminal harmless, a pipe unchanged; killed outputs leave nothing."""

import csv
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from analysis.journal.journal import StoreError
from analysis.queries import run_query
from analysis.render import Result, printable, to_csv, written_whole
from analysis.report.export import export_parquet
from analysis.warehouse.warehouse import connect
from sdpo_bench import main

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202e\u2066\x08"


def obeys(text):
    """Characters of a text that a terminal would obey."""
    return [c for c in text if not (c.isprintable() or c in "\n\t")]


def on_a_terminal(*commands):
    """What commands of one process write to a terminal, as it arrives there."""
    code = (
        "import json, sys; from sdpo_bench import main\n"
        "for words in json.loads(sys.argv[1]): main(words, standalone_mode=False)"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(commands, default=str)],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "dumb", "COLUMNS": "80"},
    )
    os.close(theirs)
    out = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        out += part
    process.wait()
    os.close(ours)
    return out.decode().replace("\r\n", "\n")


def results_of(recorded):
    return ("--no-ingest", "--results", recorded / "results" / "results.duckdb")


CHARS = "chr(27) || ']0;owned' || chr(7) || 'text' || chr(13) || chr(8238)"


def test_a_query_on_a_terminal_shows_control_characters_as_escapes(recorded):
    query = ("sql", f"SELECT {CHARS} AS x", *results_of(recorded), "--format")
    out = on_a_terminal(*((*query, form) for form in ("csv", "table", "json")))
    assert obeys(out) == []
    assert out.count("owned") == out.count("text") == 3


def test_a_query_behind_a_pipe_keeps_every_byte(recorded):
    done = subprocess.run(
        [sys.executable, "-m", "sdpo_bench", "sql", f"SELECT {CHARS} AS x", "--format", "csv"]
        + list(map(str, results_of(recorded))),
        capture_output=True,
    )
    assert next(csv.reader(io.StringIO(done.stdout.decode(), newline=""))) == ["x"]
    assert "\x1b]0;owned\x07text\r\u202e".encode() in done.stdout


@pytest.mark.parametrize(
    "query",
    [
        f"SELECT ({CHARS})::INT",
        f"SELECT error({CHARS})",
        f"FROM '{HOSTILE}'",
        f'SELECT "{HOSTILE}"',
        f"SELEKT {HOSTILE}",
        f"SELECT strptime({CHARS}, '%Y')",
    ],
)
def test_an_error_of_sql_quotes_nothing_that_a_terminal_obeys(recorded, query):
    result = CliRunner().invoke(main, ["sql", query, *map(str, results_of(recorded))])
    assert result.exit_code == 1
    assert obeys(result.stderr) == []
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["import", f"{HOSTILE}.csv", "--label", "x"],
        ["sql", "SELECT 1", "--file", f"{HOSTILE}.sql"],
        ["sql", "SELECT 1", "--no-ingest", "--results", f"no/{HOSTILE}"],
        ["sql", "SELECT 1", "--no-ingest", "--format", HOSTILE],
        ["runs", "--runs-dir", f"no/{HOSTILE}"],
        ["show", HOSTILE, "1"],
        ["compare", "a", HOSTILE],
        ["eval", "--completions", f"{HOSTILE}.jsonl", "--dataset", "embedded/test"],
        [f"--{HOSTILE}"],
        [HOSTILE],
        ["sql", f"--{HOSTILE}"],
    ],
    ids=lambda arguments: arguments[0][:6],
)
def test_no_name_in_an_error_steers_a_terminal(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (1, 2), result.output
    assert obeys(result.stderr) == [], result.stderr
    assert not isinstance(result.exception, (ValueError, OSError)), result.exception


def test_a_warning_about_a_file_with_a_hostile_name_is_harmless(tmp_path):
    run = tmp_path / "runs" / f"r{HOSTILE}"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{")
    result = CliRunner().invoke(
        main,
        ["runs", "--runs-dir", str(tmp_path / "runs"), "--results", str(tmp_path / "r.duckdb")],
    )
    assert "warning: " in result.stderr
    assert obeys(result.output + result.stderr) == []


def test_an_imported_file_with_a_hostile_name_is_named_harmlessly(tmp_path):
    path = tmp_path / f"a{HOSTILE}.csv"
    path.write_text("step,loss\n1,2\n")
    result = CliRunner().invoke(
        main, ["import", str(path), "--label", "x", "--runs-dir", str(tmp_path / "runs")]
    )
    assert result.exit_code == 0, result.output
    assert obeys(result.output) == []


def test_printable_text_keeps_what_people_write():
    text = "café 日本語 🙂 a\tb\nc"
    assert printable(text) == text
    assert printable("a\nb", line_breaks=False) == "a\\nb"


@pytest.mark.parametrize(
    ("cell", "escaped"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-cmd", "'-cmd"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        (" =1", "' =1"),
        ("＝1", "'＝1"),
        ("plain", "plain"),
        ("a=1", "a=1"),
        ("", ""),
        ("'=1", "'=1"),
        ("12", "12"),
        (-5, "-5"),
        (-0.5, "-0.5"),
        (None, ""),
        (True, "True"),
    ],
)
def test_a_formula_is_escaped_where_that_is_asked_for_and_a_number_is_not(cell, escaped):
    def parsed(**options):
        return list(
            csv.reader(io.StringIO(to_csv(Result(("a",), [(cell,)]), **options), newline=""))
        )

    assert parsed()[1:] == [["" if cell is None else str(cell)]]
    assert parsed(escape_formulas=True)[1:] == [[escaped]]


def test_a_list_and_a_column_name_are_escaped_too():
    result = Result(("=name",), [(["=x"],), ({"=": 1},)])
    assert to_csv(result, escape_formulas=True).splitlines()[0] == "'=name"


def test_the_option_that_escapes_formulas_is_in_the_help_and_works(recorded):
    assert "--escape-formulas" in CliRunner().invoke(main, ["sql", "--help"]).output
    query = "SELECT '=HYPERLINK(1)' AS x, -3 AS y"
    result = CliRunner().invoke(
        main,
        ["sql", query, "--format", "csv", "--escape-formulas", *map(str, results_of(recorded))],
    )
    assert result.stdout == "x,y\n'=HYPERLINK(1),-3\n"


EXPORTER = """
import sys, time
from pathlib import Path
from analysis.report import export
from analysis.warehouse.warehouse import connect
tables = export.record_tables()
def slow():
    yield from list(tables)[:1]
    print("half", flush=True)
    time.sleep(60)
export.record_tables = slow
with connect(Path(sys.argv[1])) as connection:
    export.export_parquet(connection, Path(sys.argv[2]))
"""


def export_that_waits(recorded, folder):
    process = subprocess.Popen(
        [sys.executable, "-c", EXPORTER, recorded / "results" / "results.duckdb", folder],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "half\n"
    return process


def export(recorded, folder):
    with connect(recorded / "results" / "results.duckdb") as connection:
        return export_parquet(connection, folder)


def test_an_export_leaves_one_that_runs_alone_and_removes_what_a_killed_one_left(
    recorded, tmp_path
):
    process = export_that_waits(recorded, tmp_path / "out")
    (running,) = tmp_path.iterdir()
    assert running.name.startswith(".out.")
    export(recorded, tmp_path / "out")
    assert running.is_dir()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    shutil.rmtree(tmp_path / "out")
    assert list(tmp_path.iterdir()) == [running]
    export(recorded, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_leaves_files_of_other_names_alone(recorded, tmp_path):
    for name in (
        ".out.abc",
        ".out.12345678.txt",
        ".other.12345678",
        "out.12345678",
        ".out.1234567g",
    ):
        (tmp_path / name).write_text("mine")
    export(recorded, tmp_path / "out")
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("how", ["text", "folder"])
def test_an_output_that_fails_leaves_nothing(tmp_path, how):
    with pytest.raises(RuntimeError):
        with written_whole(tmp_path / "x", folder=how == "folder") as temporary:
            assert temporary.exists()
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_of_a_file_leaves_nothing_beside_the_next(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from analysis.render import written_whole\n"
        "with written_whole(Path(sys.argv[1])) as t:\n    t.write_text('half'); print('x', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "a.csv"], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    assert len(list(tmp_path.iterdir())) == 1
    with written_whole(tmp_path / "a.csv") as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_read_only_results_folder_names_the_option_that_still_works(recorded_copy, monkeypatch):
    from analysis.warehouse import warehouse

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(warehouse, "ingest_lock", refuse)
    result = CliRunner().invoke(
        main,
        ["runs", "--runs-dir", str(recorded_copy / "runs")]
        + ["--results", str(recorded_copy / "results" / "results.duckdb")],
    )
    assert result.exit_code == 1
    assert "--no-ingest" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_error_that_quotes_megabytes_is_short(recorded):
    with connect(recorded / "results" / "results.duckdb") as connection:
        with pytest.raises(Exception) as caught:
            run_query(connection, "SELECT (repeat('x', 5000000))::INT")
    assert len(str(caught.value)) < 2000


def test_an_output_never_takes_the_place_of_a_pipe_a_device_or_a_link(recorded, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept/file.csv")
    query = ("sql", "SELECT 1 AS x", *map(str, results_of(recorded)), "--format", "csv")
    compared = ("compare", "train-grpo-42", "train-sdpo-42", "--runs-dir", str(recorded / "runs"))
    for command, option in ((query, "--output"), (query, "--json"), (compared, "--json")):
        refused = CliRunner().invoke(main, [*command, option, str(tmp_path / "pipe")])
        assert refused.exit_code == 1 and "no file" in refused.stderr
        assert (tmp_path / "pipe").is_fifo()
        CliRunner().invoke(main, [*command, option, str(tmp_path / "link")])
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "kept" / "file.csv").read_text()
        (tmp_path / "kept" / "file.csv").unlink()
    with pytest.raises(StoreError, match="no file"), written_whole(tmp_path / "pipe"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "link", "pipe"]
