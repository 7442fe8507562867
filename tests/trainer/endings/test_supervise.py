"""The supervisor with real processes and signals; its children are small scripts."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import trainer.endings.supervise
from trainer.endings.exit_codes import FAILED, INTERRUPTED
from trainer.endings.supervise import (
    STATUS_FD,
    die_with_supervisor,
    needs_supervisor,
    supervise,
    tell,
)

TELL = f"""
import json, os, signal, sys, time
def tell(**content):
    os.write(int(os.environ[{STATUS_FD!r}]), json.dumps(content).encode() + b"\\n")
"""


def child(source):
    return [sys.executable, "-c", TELL + textwrap.dedent(source)]


@pytest.fixture
def said():
    return []


def supervised(source, said, **options):
    return supervise(child(source), say=said.append, **options)


@pytest.mark.parametrize("status", [0, 1, 75])
def test_the_childs_status_is_the_runs(status, said):
    assert supervised(f"sys.exit({status})", said) == status
    assert said == []


def test_a_child_that_hangs_after_its_end_is_named_and_ended_with_its_own_status(said):
    started = time.monotonic()
    source = """
        tell(run_dir="runs/x")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell(exit_code=0, run_dir="runs/x")
        while True: time.sleep(60)
    """
    assert supervised(source, said, end_grace_s=0.5) == 0
    assert time.monotonic() - started < 20
    (line,) = said
    assert "did not exit within" in line and "runs/x" in line


def test_what_a_hanging_child_started_ends_with_it(said, tmp_path):
    source = f"""
        import subprocess
        worker = subprocess.Popen(["sleep", "600"])
        open({str(tmp_path / "pid")!r}, "w").write(str(worker.pid))
        tell(exit_code=0)
        worker.wait()
    """
    assert supervised(source, said, end_grace_s=0.3) == 0
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _runs(pid):
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_child_is_said_with_the_signal_and_the_way_on(said):
    source = """
        tell(run_dir="runs/x")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert supervised(source, said) == 128 + signal.SIGKILL
    (line,) = said
    assert "SIGKILL" in line and "--resume runs/x" in line and "out of memory" in line


SUPERVISOR = """
import os, sys
import trainer.endings.supervise
from trainer.endings.supervise import supervise
trainer.endings.supervise.STOP_GRACE_S = float(os.environ.get("GRACE", 10))
def say(line):
    if "GONE" in os.environ:
        raise OSError("no terminal")
    print(line, flush=True)
sys.exit(supervise([sys.executable, *sys.argv[1:]], say=say))
"""


def start_supervisor(source):
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, "-c", TELL + textwrap.dedent(source)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(process, text):
    line = process.stdout.readline()
    assert text in line, line
    return line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_supervisor_reaches_the_child(number):
    process = start_supervisor(f"""
        def end(number, frame):
            sys.exit(75)
        signal.signal({int(number)}, end)
        tell(handles=True, doing="step 1")
        print("ready", flush=True)
        time.sleep(60)
    """)
    wait_for(process, "ready")
    time.sleep(0.5)  # what was told is taken in
    process.send_signal(number)
    assert process.wait(timeout=20) == 75


def test_a_signal_that_comes_before_the_child_waits_for_it(monkeypatch, said):
    start, lost = subprocess.Popen, []

    def signalled(*words, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return start(*words, **options)

    monkeypatch.setattr(subprocess, "Popen", signalled)
    before = signal.signal(signal.SIGTERM, lambda *_: lost.append("the supervisor's own"))
    try:
        assert supervised("time.sleep(60)", said) == INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (said, lost) == (["stopping now", "stopped; nothing was begun"], [])


def test_a_signal_is_passed_on_although_nobody_can_be_told(monkeypatch):
    monkeypatch.setenv("GONE", "1")
    process = start_supervisor("""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        print("ready", flush=True)
        time.sleep(60)
    """)
    wait_for(process, "ready")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 75


def test_ctrl_c_is_answered_at_once_with_what_is_finished_first_and_how_long_that_takes():
    process = start_supervisor("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a process that is deep in a kernel
        tell(handles=True, run_dir="runs/x", doing="step 12", since=time.monotonic(), usual_s=40.4)
        print("ready", flush=True)
        time.sleep(60)
    """)
    wait_for(process, "ready")
    time.sleep(0.5)  # what was told is taken in
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    wait_for(process, "finishing step 12, about 40 s; again to stop now")
    assert time.monotonic() - asked < 1.0
    process.kill()


def test_the_second_ctrl_c_ends_a_process_that_does_not_answer_and_says_how_to_go_on(monkeypatch):
    monkeypatch.setenv("GRACE", "0.3")
    process = start_supervisor("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        tell(handles=True, run_dir="runs/x", doing="step 1")
        print("ready", flush=True)
        time.sleep(60)
    """)
    wait_for(process, "ready")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    wait_for(process, "finishing step 1; again to stop now")
    process.send_signal(signal.SIGINT)
    wait_for(process, "stopping now")
    wait_for(process, "stopped; `sdpo-bench train --resume runs/x` goes on")
    assert process.wait(timeout=20) == 130


def test_ctrl_c_while_the_child_still_imports_ends_it_at_once(monkeypatch):
    monkeypatch.setenv("GRACE", "600")
    process = start_supervisor("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("ready", flush=True)
        time.sleep(60)
    """)
    wait_for(process, "ready")
    process.send_signal(signal.SIGINT)
    wait_for(process, "stopping now")
    wait_for(process, "stopped; nothing was begun")
    assert process.wait(timeout=20) == 130


def test_a_closed_terminal_asks_the_child_to_save_and_stop():
    process = start_supervisor("""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        print("ready", flush=True)
        time.sleep(60)
    """)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == 75


def test_a_child_dies_with_a_supervisor_that_was_killed():
    process = start_supervisor("""
        from trainer.endings.supervise import die_with_supervisor
        die_with_supervisor()
        print(os.getpid(), flush=True)
        time.sleep(600)
    """)
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _runs(pid):
        time.sleep(0.05)
    assert not _runs(pid)


def test_a_supervised_process_and_a_launchers_process_need_no_supervisor(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv(STATUS_FD, raising=False)
    assert needs_supervisor()
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not needs_supervisor()
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setenv(STATUS_FD, "5")
    assert not needs_supervisor()


def test_the_supervisor_imports_nothing_heavy():
    code = "import sys, trainer.endings.supervise; sys.exit(bool({'torch', 'trl', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}).returncode == 0


def test_signals_mean_what_they_meant_before_once_the_child_has_ended(said):
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    supervised("pass", said)
    assert [signal.getsignal(number) for number in numbers] == before


def test_what_a_process_tells_is_one_line_and_without_a_supervisor_nothing(monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setenv(STATUS_FD, str(writing))
    tell(exit_code=3, run_dir="runs/x")
    assert os.read(reading, 100) == b'{"exit_code": 3, "run_dir": "runs/x"}\n'
    os.close(reading)
    tell(exit_code=3)  # nobody listens any more
    monkeypatch.delenv(STATUS_FD)
    os.close(writing)
    tell(exit_code=3)


def test_a_process_whose_supervisor_has_died_ends_at_once_and_any_other_is_left_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "trainer.endings.supervise.ctypes.CDLL",
        lambda name: type("libc", (), {"prctl": staticmethod(lambda *a: asked.append(a))}),
    )
    monkeypatch.delenv(STATUS_FD, raising=False)
    monkeypatch.setattr("trainer.endings.supervise.os.getppid", lambda: 1)
    die_with_supervisor()
    assert asked == []
    monkeypatch.setenv(STATUS_FD, "5")
    with pytest.raises(SystemExit) as ended:
        die_with_supervisor()
    assert ended.value.code == FAILED and asked == [(1, signal.SIGKILL)]
    monkeypatch.setattr("trainer.endings.supervise.os.getppid", lambda: 2)
    die_with_supervisor()


def test_a_closed_pipe_is_not_asked_again_at_once(monkeypatch):
    slept = []
    monkeypatch.setattr("trainer.endings.supervise.time.sleep", slept.append)
    reading, writing = os.pipe()
    told = trainer.endings.supervise._Told()
    os.write(writing, b'{"run_dir": "a"}\n{"exit_code": 0}\n')
    trainer.endings.supervise._listen(reading, told)
    assert (told.run_dir, told.exit_code, slept) == ("a", 0, [])
    os.close(writing)
    trainer.endings.supervise._listen(reading, told)
    os.close(reading)
    assert slept == [trainer.endings.supervise._TICK_S]
