import errno
import json
import math
import os
import resource
import signal
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.journal.journal import Journal, StoreError, is_being_written, read_run_info, segments
from analysis.journal.lines import Line, scan
from analysis.records import Metric, Rewind, RunState, TestResult
from benchmarks.synthetic import synthetic_info
from tests.scale import examples

HOSTILE = [
    "\x00",
    "\ud800",
    "\udfff tail",
    "\x1b[2J",
    "<script>alert(1)</script>",
    "'; DROP TABLE runs; --",
    "{} %s {0!r}",
    "a\nb\r\nc\u2028d",
    "\ufeff",
]


def _rows(journal_or_dir, table="metrics"):
    run_dir = getattr(journal_or_dir, "run_dir", journal_or_dir)
    return [
        json.loads(item.row)
        for _, path in segments(run_dir)
        for item in scan(path)
        if isinstance(item, Line) and item.table == table
    ]


def _metric(value, step=1):
    return Metric(step=step, name="loss", value=value)


def test_a_commit_is_on_disk_and_an_append_alone_is_not(tmp_path):
    journal = Journal.create(tmp_path, synthetic_info("a"))
    journal.append(_metric(1.0))
    assert _rows(journal) == []
    journal.commit()
    assert [row["value"] for row in _rows(journal)] == [1.0]
    journal.close()


def test_a_commit_syncs_once_and_writes_once(tmp_path, monkeypatch):
    calls = []
    with Journal.create(tmp_path, synthetic_info("a")) as journal:
        real_sync, real_write = os.fsync, os.pwrite
        monkeypatch.setattr(os, "fsync", lambda fd: calls.append("sync") or real_sync(fd))
        monkeypatch.setattr(os, "pwrite", lambda *a: calls.append("write") or real_write(*a))
        for step in range(50):
            journal.append(_metric(0.0, step))
        journal.commit()
        assert calls == ["write", "sync"]
        journal.commit()
        assert calls == ["write", "sync"]
        monkeypatch.undo()


def test_run_json_is_there_before_the_first_row_and_says_what_it_was_given(tmp_path):
    info = synthetic_info("a")
    with Journal.create(tmp_path, info) as journal:
        # The journal adds which run of its folder it is, nothing else.
        assert read_run_info(journal.run_dir) == info.model_copy(update={"sequence": 1})
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_runs_are_numbered_in_the_order_in_which_they_began(tmp_path):
    names = ["z", "a", "m"]
    for name in names:
        Journal.create(tmp_path, synthetic_info(name)).close()
    numbers = {name: read_run_info(tmp_path / name).sequence for name in names}
    assert numbers == {"z": 1, "a": 2, "m": 3}
    # The number is read from the end of the file, which may be long.
    assert list(type(synthetic_info("x")).model_fields)[-1] == "sequence"
    (tmp_path / "m" / "run.json").write_bytes(b"\xff{")
    assert Journal.create(tmp_path, synthetic_info("b")).info.sequence == 3


def test_an_existing_run_is_refused_in_one_line_and_left_alone(tmp_path):
    Journal.create(tmp_path, synthetic_info("a")).close()
    before = sorted((tmp_path / "a").iterdir())
    with pytest.raises(StoreError, match="must not exist yet, got .*; resume it") as caught:
        Journal.create(tmp_path, synthetic_info("a"))
    assert "\n" not in str(caught.value)
    assert sorted((tmp_path / "a").iterdir()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize("run_id", ["", "../up", "a/b", ".hidden", "a\x00b", "a" * 201, "a b"])
def test_a_run_id_is_a_plain_file_name(tmp_path, run_id):
    with pytest.raises(StoreError, match="a run id must be"):
        Journal.create(tmp_path, synthetic_info(run_id))
    assert list(tmp_path.iterdir()) == []


def test_a_run_has_one_writer_and_the_lock_goes_with_it(tmp_path):
    journal = Journal.create(tmp_path, synthetic_info("a"))
    assert is_being_written(journal.run_dir)
    with pytest.raises(StoreError, match="one writer"):
        Journal.resume(journal.run_dir)
    journal.close()
    assert not is_being_written(journal.run_dir)
    Journal.resume(journal.run_dir).close()


def test_a_forked_child_that_outlives_the_writer_does_not_hold_the_run(tmp_path):
    journal = Journal.create(tmp_path, synthetic_info("a"))
    (waits, ends), (began, begins) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(begins, b"x")
        os.read(waits, 1)
        os._exit(0)
    try:
        os.read(began, 1)
        with pytest.raises(StoreError, match="must have one writer"):
            Journal.resume(journal.run_dir)
        journal.close()
        Journal.resume(journal.run_dir).close()
    finally:
        os.write(ends, b"x")
        os.waitpid(child, 0)
        for descriptor in (waits, ends, began, begins):
            os.close(descriptor)


def test_each_resume_writes_a_file_of_its_own(tmp_path):
    Journal.create(tmp_path, synthetic_info("a")).close()
    first = {path: path.read_bytes() for _, path in segments(tmp_path / "a")}
    with Journal.resume(tmp_path / "a", step=3) as journal:
        assert journal.attempt == 1
    assert [attempt for attempt, _ in segments(tmp_path / "a")] == [0, 1]
    assert all(path.read_bytes() == content for path, content in first.items())
    assert _rows(tmp_path / "a", Rewind.table) == [{"attempt": 1, "step": 3}]


def test_resuming_what_is_no_run_is_one_line(tmp_path):
    with pytest.raises(StoreError, match=r"readable run\.json, got .*name the folder of a run"):
        Journal.resume(tmp_path)


def test_a_run_of_a_newer_version_is_not_resumed(tmp_path):
    Journal.create(tmp_path, synthetic_info("a")).close()
    path = tmp_path / "a" / "run.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(StoreError, match=r"schema version 1 or earlier.*upgrade") as caught:
        Journal.resume(tmp_path / "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "state"),
    [(None, "finished"), (KeyboardInterrupt(), "stopped"), (ValueError("bad loss"), "failed")],
)
def test_leaving_the_journal_records_how_the_run_ended(tmp_path, error, state):
    try:
        with Journal.create(tmp_path, synthetic_info("a")):
            if error:
                raise error
    except (KeyboardInterrupt, ValueError):
        pass
    assert [row["state"] for row in _rows(tmp_path / "a", RunState.table)] == ["running", state]


def test_a_state_that_the_owner_recorded_is_kept(tmp_path):
    with Journal.create(tmp_path, synthetic_info("a")) as journal:
        journal.finish("stopped", "time limit")
    assert _rows(tmp_path / "a", RunState.table)[-1]["error"] == "time limit"
    assert len(_rows(tmp_path / "a", RunState.table)) == 2


@settings(deadline=None, max_examples=examples(25))
@given(texts=st.lists(st.text(st.characters(codec=None)) | st.sampled_from(HOSTILE), max_size=5))
def test_any_text_can_be_stored_and_comes_back_except_half_surrogates(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("j")
    with Journal.create(folder, synthetic_info("a")) as journal:
        for step, text in enumerate(texts):
            journal.append(Metric(step=step, name=text, value=0.0))
    expected = [text.encode("utf-8", "backslashreplace").decode() for text in texts]
    assert [row["name"] for row in _rows(folder / "a")] == expected


def test_a_10_mb_completion_is_stored_whole(tmp_path):
    text = "é\x00\n" * (10 << 18)
    with Journal.create(tmp_path, synthetic_info("a")) as journal:
        journal.append(Metric(step=1, name=text, value=0.0))
    assert _rows(tmp_path / "a")[0]["name"] == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e-320, -0.0, 1e308])
def test_every_float_survives(tmp_path, value):
    with Journal.create(tmp_path, synthetic_info("a")) as journal:
        journal.append(_metric(value))
    stored = float(_rows(tmp_path / "a")[0]["value"])
    assert repr(stored) == repr(value)


def test_an_integer_that_no_column_holds_is_refused_where_it_is_made():
    with pytest.raises(ValueError, match="64 bits"):
        Metric(step=2**63, name="loss", value=0.0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failed_write_loses_nothing_acknowledged_and_can_be_tried_again(
    tmp_path, monkeypatch, code
):
    journal = Journal.create(tmp_path, synthetic_info("a"))
    journal.append(_metric(1.0))
    journal.commit()
    acknowledged = journal.path.read_bytes()

    def half_then_fail(fd, data, position):
        os.lseek(fd, position, os.SEEK_SET)
        os.write(fd, bytes(data[: len(data) // 2]))
        raise OSError(code, os.strerror(code))

    journal.append(_metric(2.0))
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", half_then_fail)
        with pytest.raises(StoreError, match="everything committed before is intact") as caught:
            journal.commit()
    assert os.strerror(code) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert journal.path.read_bytes() == acknowledged
    journal.commit()
    assert [row["value"] for row in _rows(journal)] == [1.0, 2.0]
    journal.close()


def test_a_failed_sync_acknowledges_nothing(tmp_path, monkeypatch):
    journal = Journal.create(tmp_path, synthetic_info("a"))
    size = journal.path.stat().st_size
    journal.append(_metric(1.0))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "I/O")))
        with pytest.raises(StoreError):
            journal.commit()
    assert journal.path.stat().st_size == size
    journal.close()


def test_a_real_size_limit_stops_the_run_with_earlier_rows_intact(tmp_path):
    """A child under RLIMIT_FSIZE writes until the kernel refuses, as on a full disk."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            journal = Journal.create(tmp_path, synthetic_info("a"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            try:
                for step in range(10_000):
                    journal.append(_metric(float(step), step))
                    journal.commit()
                    (tmp_path / "acknowledged").write_text(str(step))
            except StoreError:
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    steps = [row["step"] for row in _rows(tmp_path / "a")]
    assert steps == list(range(int((tmp_path / "acknowledged").read_text()) + 1))
    assert steps


def test_the_first_error_is_not_hidden_by_a_full_disk(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ValueError, match="the cause") as caught:
        with Journal.create(tmp_path, synthetic_info("a")):
            monkeypatch.setattr(os, "pwrite", fail)
            raise ValueError("the cause")
    assert "No space left" in caught.value.__notes__[0]
    assert not is_being_written(tmp_path / "a")


def test_a_folder_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StoreError, match="the runs folder must be writable") as caught:
        Journal.create(tmp_path / "runs", synthetic_info("a"))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_runs_folder_is_one_line(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(StoreError, match="must be writable"):
        Journal.create(tmp_path, synthetic_info("a"))


def test_a_run_that_could_not_be_described_leaves_no_folder(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(StoreError, match="No space left"):
        Journal.create(tmp_path, synthetic_info("a"))
    assert list(tmp_path.iterdir()) == []


def test_a_closed_journal_takes_no_more(tmp_path):
    journal = Journal.create(tmp_path, synthetic_info("a"))
    journal.close()
    journal.close()
    with pytest.raises(StoreError, match="must be open"):
        journal.append(_metric(1.0))


def test_a_misspelt_field_is_refused():
    with pytest.raises(ValueError, match="verdit"):
        TestResult(execution_id="a", assert_index=0, verdit="passed")
