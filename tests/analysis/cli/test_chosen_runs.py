"""Which runs a name stands for in `report`, `plots` and `watch`."""

from analysis.cli.options import chosen_runs
from analysis.journal.journal import Journal
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import synthetic_info


def test_an_id_that_is_also_a_label_is_the_run_and_a_note_names_the_other(tmp_path, capsys):
    for run_id, label in (("one", "x"), ("two", "one"), ("three", "one/more")):
        Journal.create(tmp_path / "runs", synthetic_info(run_id, label=label)).close()
    ingest(tmp_path / "runs", tmp_path / "r.duckdb")
    with connect(tmp_path / "r.duckdb") as connection:
        for name, run_id in (("one/more", "three"), ("one/final", "one"), ("x", "one")):
            assert chosen_runs(connection, [name]) == (run_id,)
        assert capsys.readouterr().err == ""
        assert chosen_runs(connection, ["one"]) == ("one",)
    assert "which was taken, and the label of two" in capsys.readouterr().err
