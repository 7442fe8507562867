"""A run that cannot be read costs a line, and no other run."""

import os
from pathlib import Path

import pytest

from analysis.journal.journal import StoreError, labelled_runs, next_sequence
from analysis.warehouse.warehouse import ingest
from evaluator.results.stored import read_evals
from tests.analysis.warehouse.stored import rows, write


def refuse(monkeypatch, folder):
    """Have the system refuse to look into a folder, as it does anybody but root."""
    stat = os.stat

    def refusing(path, *words, **named):
        if not isinstance(path, int) and folder in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *words, **named)

    monkeypatch.setattr(os, "stat", refusing)


@pytest.mark.parametrize("fault", ["refused", "gone"])
def test_a_run_whose_run_json_is_refused_or_gone_is_said_and_the_others_are_read(
    tmp_path, results, monkeypatch, fault
):
    runs = tmp_path / "runs"
    write(runs, "bad")
    write(runs, "good")
    if fault == "refused":
        refuse(monkeypatch, runs / "bad")
    else:
        (runs / "bad" / "run.json").unlink()
    (runs / "notes").mkdir()
    problems = ingest(runs, results).problems
    assert len(problems) == 1, problems
    assert str(runs / "bad") in problems[0] and "\n" not in problems[0]
    monkeypatch.undo()
    assert rows(results, "SELECT run_id FROM runs") == [("good",)]


@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", ["run.json", "segment"])
def test_what_is_no_file_is_said_and_never_waited_for(tmp_path, results, name, what):
    runs = tmp_path / "runs"
    write(runs, "bad")
    write(runs, "good")
    (place,) = (runs / "bad").glob(f"{name}*")
    place.unlink()
    if what == "pipe":
        os.mkfifo(place)
    elif what == "device":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    problems = ingest(runs, results).problems
    assert len(problems) == 1, problems
    assert str(place) in problems[0] and "\n" not in problems[0]
    assert rows(results, "SELECT run_id FROM runs") == [("good",)]
    assert labelled_runs(runs, "sdpo-42")[-1:] and next_sequence(runs) == 3
    if name == "segment":
        with pytest.raises(StoreError, match="no file"):
            read_evals(runs / "bad")
