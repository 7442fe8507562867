"""Imports into a folder of runs, and asks what is in it."""

from click.testing import CliRunner

from analysis.warehouse.warehouse import connect, ingest
from sdpo_bench import main


def run_import(tmp_path, *arguments):
    return CliRunner().invoke(
        main, ["import", *map(str, arguments), "--runs-dir", str(tmp_path / "runs")]
    )


def query(tmp_path, text):
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        return connection.execute(text).fetchall()
