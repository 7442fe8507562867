import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from click import UsageError
from click.testing import CliRunner
from rich.console import Console

from analysis.journal.journal import Journal
from analysis.records import Metric
from analysis.render import Result, print_table, to_csv, to_json, unique, visible
from analysis.warehouse.recent import recent_path
from analysis.warehouse.warehouse import ingest
from benchmarks.synthetic import synthetic_info
from sdpo_bench import main
from tests.analysis.warehouse.stored import write


def invoke(folder, *arguments, **options):
    return CliRunner().invoke(
        main,
        [
            arguments[0],
            "--runs-dir",
            str(folder / "runs"),
            "--results",
            str(folder / "results" / "results.duckdb"),
            *map(str, arguments[1:]),
        ],
        **options,
    )


def one_line(result):
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def table(*rows, columns=("a", "b")):
    out = io.StringIO()
    print_table(Result(columns, list(rows)), console=Console(file=out, width=80))
    return out.getvalue()


@pytest.mark.parametrize("command", ["ingest", "sql", "runs", "plots"])
def test_each_command_has_help_with_an_example(command):
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example:  sdpo-bench {command}" in result.output
    assert "--json FILE" in result.output


@pytest.mark.parametrize("command", [["ingest"], ["sql", "SELECT 1"], ["runs"], ["plots"]])
def test_a_missing_runs_folder_is_one_line(tmp_path, command):
    assert "the runs folder must exist" in one_line(invoke(tmp_path, *command))


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ([], "results/results.duckdb"),
        (["--runs-dir", "runs"], "results/results.duckdb"),
        (["--runs-dir", "other"], "other.duckdb"),
        (["--runs-dir", "other/"], "other.duckdb"),
        (["--runs-dir", "other/."], "other.duckdb"),
        (["--results", "mine.duckdb", "--runs-dir", "other"], "mine.duckdb"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "nothing",
)
def test_each_runs_folder_has_a_results_file_of_its_own(tmp_path, monkeypatch, given, file):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in ("runs", "other"):
        write(here / name)
    found = CliRunner().invoke(main, ["sql", "SELECT count(*) AS n FROM runs", *given])
    assert found.exit_code == 0, found.output
    assert [str(p.relative_to(here)) for p in here.rglob("*.duckdb")] == [file]
    assert CliRunner().invoke(main, ["sql", "SELECT 1", "--runs-dir", "."]).exit_code == 0
    assert (tmp_path / "here.duckdb").is_file()


def test_ingest_says_what_it_read(recorded_copy, tmp_path):
    result = invoke(recorded_copy, "ingest", "--rebuild", "--json", tmp_path / "report.json")
    assert result.exit_code == 0
    assert "of 7 run(s)" in result.output
    assert json.loads((tmp_path / "report.json").read_text())[0]["n_runs"] == 7


def test_ingest_of_a_damaged_journal_reports_and_exits_with_1(recorded_copy):
    path = next((recorded_copy / "runs" / "train-sdpo-42").glob("segment-*"))
    with path.open("ab") as file:
        file.write(b"not a line\n")
    result = invoke(recorded_copy, "ingest")
    assert result.exit_code == 1
    assert f"warning: {path}: damaged line at byte" in result.stderr
    assert "Traceback" not in result.output
    assert invoke(recorded_copy, "sql", "SELECT 1 AS one").exit_code == 0


def test_sql_ingests_first_unless_told_not_to(recorded_copy):
    with Journal.create(recorded_copy / "runs", synthetic_info("new")) as journal:
        journal.append(Metric(step=1, name="only-here", value=1.0))
    query = "SELECT count(*) AS n FROM metrics WHERE name = 'only-here'"
    for option, n in (("--no-ingest", 0), ("--ingest", 1)):
        result = invoke(recorded_copy, "sql", query, option, "--format", "json")
        assert json.loads(result.stdout) == [{"n": n}]


@pytest.mark.parametrize("how", ["argument", "file", "stdin", "dash"])
def test_a_query_is_an_argument_a_file_or_standard_input(recorded, tmp_path, how):
    query = "SELECT 40 + 2 AS answer"
    (tmp_path / "query.sql").write_text(query)
    arguments, options = {
        "argument": ([query], {}),
        "file": (["--file", tmp_path / "query.sql"], {}),
        "stdin": ([], {"input": query}),
        "dash": (["-"], {"input": query}),
    }[how]
    result = invoke(recorded, "sql", "--format", "csv", *arguments, **options)
    assert result.stdout == "answer\n42\n"


def test_sql_writes_each_form(recorded, tmp_path):
    query = "SELECT task_id, completion, reward FROM rollouts ORDER BY ALL LIMIT 5"
    for form in ("csv", "json", "parquet"):
        result = invoke(
            recorded, "sql", query, "--format", form, "--output", tmp_path / f"out.{form}"
        )
        assert result.exit_code == 0, result.output
    by_csv = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    by_json = json.loads((tmp_path / "out.json").read_text())
    with duckdb.connect() as connection:
        by_parquet = connection.execute(
            "SELECT * FROM read_parquet(?)", [str(tmp_path / "out.parquet")]
        ).fetchall()
    assert [row["completion"] for row in by_csv] == [row["completion"] for row in by_json]
    assert [list(row.values()) for row in by_json] == [list(row) for row in by_parquet]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.csv",
        "out.json",
        "out.parquet",
    ]


def ask_on_a_terminal(folder, text):
    """What `sdpo-bench sql` shows somebody who types a text."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sdpo_bench", "sql", "--runs-dir", folder / "runs"]
        + ["--results", folder / "results" / "results.duckdb"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TERM": "dumb"},
    )
    os.write(ours, text.encode())
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    return out.decode()


def test_without_a_query_a_terminal_gets_the_duckdb_shell_over_everything(
    recorded_copy, monkeypatch
):
    beside = Path(sys.executable).with_name("duckdb")
    if not (shutil.which("duckdb") or shutil.which(beside)):
        pytest.skip("no duckdb shell")
    monkeypatch.setattr("analysis.warehouse.warehouse.MOST_COPIED_BYTES", 0)
    results = recorded_copy / "results" / "results.duckdb"
    with Journal.create(recorded_copy / "runs", synthetic_info("new")) as journal:
        journal.append(Metric(step=1, name="only-here", value=7.25))
    ingest(recorded_copy / "runs", results)
    assert recent_path(results).exists()
    out = ask_on_a_terminal(
        recorded_copy,
        "SELECT 'found ' || value FROM metrics WHERE name = 'only-here';\n"
        "CREATE TABLE x AS SELECT 1;\n.exit\n",
    )
    assert "found 7.25" in out
    assert "read-only" in out


def test_without_a_query_and_a_shell_it_is_said_what_to_do(recorded, monkeypatch):
    from analysis.cli.results import _open_shell

    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UsageError, match="pip install duckdb-cli"):
        _open_shell(recorded / "results" / "results.duckdb")


def test_every_table_can_also_be_a_json_file(recorded, tmp_path):
    for arguments in (["sql", "FROM leaderboard"], ["runs"]):
        path = tmp_path / f"{arguments[0]}.json"
        assert invoke(recorded, *arguments, "--json", path).exit_code == 0
        assert len(json.loads(path.read_text())) >= 4


@pytest.mark.parametrize(
    "query",
    ["DROP TABLE runs", "INSERT INTO warehouse VALUES ('x')", "SELEKT 1", "FROM nothing", "SELECT"],
)
def test_sql_that_writes_or_is_wrong_is_one_line(recorded, query):
    assert "must be valid read-only SQL" in one_line(invoke(recorded, "sql", query))


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT '\udcff'", "a query must be UTF-8, got"),
        (b"SELECT '\xff'", "a query must be UTF-8, got byte 0xff at 8"),
        ("SELECT INTERVAL 3000000 years", "cast its column to VARCHAR"),
        ("SELECT TIMESTAMPTZ '2020-01-01'", "`now()::TIMESTAMP`"),
    ],
)
def test_what_python_or_duckdb_cannot_hold_is_one_line(recorded, query, said):
    given = {"input": query} if isinstance(query, bytes) else {}
    words = [] if given else [query]
    assert said in one_line(invoke(recorded, "sql", "--no-ingest", *words, **given))


def test_a_statement_without_rows_prints_so_and_makes_no_parquet_file(recorded, tmp_path):
    assert "returns no rows" in invoke(recorded, "sql", "--no-ingest", ";").stdout
    words = ["--no-ingest", ";", "--format", "parquet", "--output", tmp_path / "out.parquet"]
    assert "must hold rows" in one_line(invoke(recorded, "sql", *words))
    assert list(tmp_path.iterdir()) == []


def test_a_results_file_whose_name_is_no_text_is_one_line(tmp_path):
    words = ["sql", "SELECT 1", "--no-ingest", "--results", f"{tmp_path}/\udcff.duckdb"]
    result = CliRunner().invoke(main, words)
    assert "must be the name of a file" in one_line(result)


def test_an_empty_query_and_two_queries_are_usage_errors(recorded, tmp_path):
    (tmp_path / "q.sql").write_text("SELECT 1")
    assert invoke(recorded, "sql", " ").exit_code == 2
    assert invoke(recorded, "sql", "SELECT 1", "--file", tmp_path / "q.sql").exit_code == 2
    assert invoke(recorded, "sql", "SELECT 1", "--format", "parquet").exit_code == 2


def test_an_empty_result_is_one_clear_line(recorded):
    result = invoke(recorded, "sql", "SELECT run_id, step FROM rollouts WHERE step < 0")
    assert result.stdout == "no rows (columns: run_id, step)\n"


def test_no_runs_is_one_clear_line(tmp_path):
    (tmp_path / "runs").mkdir()
    assert "no runs under" in invoke(tmp_path, "runs").stdout
    assert "no rows for any figure" in invoke(tmp_path, "plots").stdout


def test_a_damaged_results_file_is_one_line(recorded_copy):
    path = recorded_copy / "results" / "results.duckdb"
    path.write_bytes(b"garbage" * 4000)
    assert "--rebuild" in one_line(invoke(recorded_copy, "sql", "SELECT 1", "--no-ingest"))


def test_an_output_that_cannot_be_written_is_one_line(recorded, tmp_path):
    for form in ("csv", "parquet"):
        target = tmp_path / "no-folder" / "out"
        result = invoke(recorded, "sql", "SELECT 1", "--format", form, "--output", target)
        assert "an output file must be writable" in one_line(result)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_results_folder_is_one_line_and_still_readable(recorded_copy):
    (recorded_copy / "results").chmod(0o555)
    assert invoke(recorded_copy, "ingest").exit_code == 0  # nothing to write
    Journal.create(recorded_copy / "runs", synthetic_info("new")).close()
    assert "results folder must be writable" in one_line(invoke(recorded_copy, "ingest"))
    assert invoke(recorded_copy, "sql", "SELECT 1", "--no-ingest").exit_code == 0


def test_a_results_folder_that_is_a_file_is_one_line(recorded_copy):
    (recorded_copy / "blocked").write_text("")
    result = CliRunner().invoke(
        main,
        [
            "ingest",
            "--runs-dir",
            str(recorded_copy / "runs"),
            "--results",
            str(recorded_copy / "blocked" / "results.duckdb"),
        ],
    )
    assert "results folder must be writable" in one_line(result)


def test_runs_tells_running_from_killed(recorded_copy):
    runs = recorded_copy / "runs"
    alive = Journal.create(runs, synthetic_info("alive"))
    Journal.create(runs, synthetic_info("killed"))._release()
    invoke(recorded_copy, "runs", "--json", recorded_copy / "runs.json")
    states = {
        row["run_id"]: row["state"] for row in json.loads((recorded_copy / "runs.json").read_text())
    }
    assert (states["alive"], states["killed"]) == ("running", "interrupted")
    assert states["train-sdpo-42"] == "finished"
    alive.close()


def test_runs_says_how_far_a_run_is_and_how_it_does(tmp_path):
    info = synthetic_info("a")
    info = info.model_copy(update={"config": {"training": {"max_steps": 200}}})
    with Journal.create(tmp_path / "runs", info) as journal:
        for step, reward in ((1, 0.25), (2, 0.75)):
            journal.append(Metric(step=step, name="reward", value=reward))
    out = invoke(tmp_path, "runs", "--json", tmp_path / "runs.json").output
    (row,) = json.loads((tmp_path / "runs.json").read_text())
    assert (row["state"], row["step"], row["of"], row["reward"]) == ("finished", 2, 200, 0.75)
    assert "0.75" in out


@pytest.mark.parametrize(
    "text", ["\x1b[2J\x1b]0;owned\x07", "a\rb\nc", "\x00", "\u202eevil", "\x9b31m", "\ud800", "​"]
)
def test_nothing_that_a_terminal_obeys_is_printed(text):
    printed = table((text, 1))
    allowed = set("\n")
    assert all(char.isprintable() or char in allowed for char in printed)


def test_markup_and_templates_are_printed_as_they_are():
    printed = table(("[bold]x[/bold] {0} %s <script>", "[/]"))
    assert "[bold]x[/bold] {0} %s <script>" in printed
    assert "[/]" in printed


def test_a_long_cell_is_cut_and_a_number_is_not():
    printed = table(("x" * 2_000_000, 123456789012))
    assert len(printed) < 400
    assert "123456789012" in printed
    assert "…" in printed


def test_a_table_that_does_not_fit_a_terminal_becomes_blocks():
    out = io.StringIO()
    names = tuple(f"column_{i}" for i in range(20))
    wide = Result(names, [tuple("value" * 5 for _ in names)])
    print_table(wide, console=Console(file=out, width=80, force_terminal=True, color_system=None))
    assert "row 1" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_more_rows_than_are_shown_are_announced():
    out = io.StringIO()
    print_table(Result(("a",), [(i,) for i in range(7)]), max_rows=3, console=Console(file=out))
    assert "3 of 7 rows shown" in out.getvalue()


def test_json_and_csv_hold_the_text_as_it_is():
    result = Result(("a", "b"), [('x,\n"y" \x1b', float("nan")), (None, float("-inf"))])
    assert json.loads(to_json(result)) == [
        {"a": 'x,\n"y" \x1b', "b": "NaN"},
        {"a": None, "b": "-Infinity"},
    ]
    parsed = list(csv.reader(io.StringIO(to_csv(result), newline="")))
    assert parsed[1][0] == 'x,\n"y" \x1b'


def test_columns_of_one_name_are_all_kept():
    assert unique(["a", "a", "b", "a_2"]) == ("a", "a_2", "b", "a_2_2")


def test_visible_text_is_bounded():
    assert len(visible("\x00" * 100, 20)) == 20


def test_the_results_are_read_without_torch_or_altair(recorded):
    """Neither is needed for SQL, and importing torch takes seconds."""
    code = (
        "import sys; from click.testing import CliRunner; from sdpo_bench import main\n"
        "CliRunner().invoke(main, ['sql', 'SELECT 1', '--no-ingest', '--results', sys.argv[1]])\n"
        "print([name for name in ('torch', 'altair', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, recorded / "results" / "results.duckdb"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
