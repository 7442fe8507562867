"""An import that is cut off, or whose log is no file."""

import os

import pytest

from tests.analysis.imports.runs import query, run_import


def test_an_import_that_is_killed_leaves_no_run(tmp_path, monkeypatch):
    (tmp_path / "log.csv").write_text("step,loss\n1,0.5\n")
    words = (tmp_path / "log.csv", "--label", "x")
    with monkeypatch.context() as patched:  # what is left where it stops in the midst of its rows
        patched.setattr("analysis.journal.restored.encode", lambda *_: os._exit(9))
        if (child := os.fork()) == 0:
            run_import(tmp_path, *words)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not list((tmp_path / "runs").glob("[!.]*"))
    (left,) = (tmp_path / "runs").glob(".new-*")
    os.utime(left, (1, 1))
    done = run_import(tmp_path, *words)
    assert done.exit_code == 0 and "have the label" not in done.output
    assert not left.exists()
    assert query(tmp_path, "SELECT label, state, n_attempts FROM run_overview") == [
        ("x", "finished", 1)
    ]


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet"])
def test_a_log_that_is_no_file_is_refused_and_not_waited_for(tmp_path, ending):
    os.mkfifo(tmp_path / f"log.{ending}")
    done = run_import(tmp_path, tmp_path / f"log.{ending}", "--label", "x")
    assert done.exit_code == 1 and "a log must be a file, got" in done.output
    assert not (tmp_path / "runs").exists()
