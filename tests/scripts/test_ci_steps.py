"""The steps of .ci/run: timed, some of them in the background, and no failure is lost."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from tests.test_docs import ROOT

START = f"set -euo pipefail; source {ROOT}/.ci/steps.sh; trap finish EXIT\n"


def ci(script, **options):
    """What a script of steps printed, and its status."""
    return subprocess.run(
        ["bash", "-c", START + script], capture_output=True, text=True, timeout=30, **options
    )


def test_every_step_stands_with_its_seconds_under_the_last_of_them():
    later = "SECONDS=$((SECONDS + 70))"
    done = ci(
        f"say one; {later}; r() {{ say three; {later}; }}; beside r; join r; say two; {later}"
    )
    assert done.returncode == 0, done.stderr
    table = done.stdout.partition("== seconds by step\n")[2]
    found = [(name, int(n) // 70) for n, name in re.findall(r"^ *(\d+)  (\w+)$", table, re.M)]
    assert found == [("one", 1), ("two", 1), ("three", 1), ("all", 2)]


def test_what_runs_beside_a_step_is_printed_whole_once_it_is_joined():
    done = ci("r() { echo kept; echo both >&2; }; beside r; sleep 0.3; echo first; join r; say end")
    lines = [line for line in done.stdout.splitlines() if line in ("first", "kept", "both")]
    assert lines == ["first", "kept", "both"]


def test_two_rows_run_at_the_same_time(tmp_path):
    row = "touch $1; until [ -e $2 ]; do sleep 0.05; done"
    rows = "".join(f"{a}() {{ meet {a} {b}; }}\n" for a, b in ("xy", "yx"))
    done = ci(f"meet() {{ {row}; }}\n{rows}beside x; beside y; join x y", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("row", ["a", "b"])
def test_a_failure_in_a_row_ends_that_row_and_fails_the_run_once_both_are_printed(row):
    rows = {"a": "say A; true; echo A2", "b": "say B; true; echo B2"}
    rows[row] = rows[row].replace("true", "(exit 3)")
    functions = "".join(f"{name}() {{ {body}; }}\n" for name, body in rows.items())
    done = ci(f"{functions}beside a; beside b; join a b; echo went on")
    assert done.returncode != 0 and f"== failed: {row}\n" in done.stdout
    assert "went on" not in done.stdout and f"{row.upper()}2" not in done.stdout
    other = {"a": "B", "b": "A"}[row]
    assert f"{other}2" in done.stdout
    table = done.stdout.partition("== seconds by step\n")[2]
    assert re.findall(r"^ +\d+  ([AB])$", table, re.M) == ["A", "B"]


def test_a_step_that_fails_ends_what_runs_beside_it_and_both_are_in_the_table(tmp_path):
    beat = tmp_path / "beat"
    row = f"r() {{ say long; sh -c 'while true; do touch {beat}; sleep 0.05; done'; }}"
    done = ci(f"{row}; beside r; sleep 0.3; say short; false")
    assert done.returncode == 1 and "ended before its time: r" in done.stdout
    table = done.stdout.partition("== seconds by step\n")[2]
    assert re.search(r"^ *0  short$", table, re.M) and "beside others, r:" in table
    assert re.search(r"^ +\d+  long$", table, re.M)
    beat.unlink()
    time.sleep(0.2)
    assert not beat.exists()


def test_a_run_that_is_ended_from_outside_says_where_it_was():
    process = subprocess.Popen(
        ["bash", "-c", START + "say first; say second; sleep 20"],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while "second" not in process.stdout.readline():
        pass
    time.sleep(0.3)  # until it sleeps
    os.killpg(process.pid, signal.SIGTERM)
    said = process.stdout.read()
    assert process.wait(timeout=10) != 0
    assert re.search(r"seconds by step\n +\d+  first\n +\d+  second\n +\d+  all", said)


@pytest.fixture
def run_ci(tmp_path):
    """.ci/run of a folder of its own, on a machine where `make` only notes what it was asked."""
    shutil.copytree(ROOT / ".ci", tmp_path / "checkout" / ".ci")
    tools = tmp_path / "tools"
    tools.mkdir()
    asked = 'echo "$SDPO_BENCH_SCALE $SDPO_BENCH_TURN $*" >>$ASKED; [ "$1" != "$BROKEN" ]'
    for name, does in {"make": asked, "docker": "true", "dpkg": "true"}.items():
        (tools / name).write_text(f"#!/bin/sh\n{does}\n")
        (tools / name).chmod(0o755)

    def run(broken="", **variables):
        done = subprocess.run(
            ["bash", tmp_path / "checkout/.ci/run"], capture_output=True, text=True, timeout=30,
            env={"PATH": f"{tools}:/usr/bin:/bin", "ASKED": str(tmp_path / "asked"), "BROKEN": broken,
                 "SDPO_BENCH_SCALE": "", "SDPO_BENCH_TURN": "", **variables},
        )  # fmt: skip
        return done, [line.split(" ", 2) for line in (tmp_path / "asked").read_text().splitlines()]

    return run


TARGETS = """check docs test test-slow test-unsloth test-adapters test-wheel check-extra wheels train-image
test-containers gpu-check .venv-unsloth/.installed""".split()


def test_ci_asks_for_every_target_at_a_tenth_and_with_a_turn(run_ci):
    done, asked = run_ci()
    assert done.returncode == 0, done.stderr
    assert {words.split()[0] for _, _, words in asked} == set(TARGETS)
    assert {scale for scale, _, _ in asked} == {"0.1"}
    assert len({turn for _, turn, _ in asked}) == 1 and asked[0][1].isdigit()
    table = done.stdout.partition("== seconds by step\n")[2]
    assert len(re.findall(r"^ +\d+  \S", table, re.M)) > len(TARGETS) + 4


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_turn_is_the_number_of_commits_and_in_a_shallow_clone_the_day(run_ci, tmp_path):
    def git(*words, where):
        known = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *known, *words], cwd=where, check=True, capture_output=True)

    checkout, whole = tmp_path / "checkout", tmp_path / "whole"
    git("init", where=checkout)
    for _ in range(3):
        git("commit", "--allow-empty", "--message", "x", where=checkout)
    assert {turn for _, turn, _ in run_ci()[1]} == {"3"}
    (tmp_path / "asked").unlink()
    shutil.copytree(checkout, whole)
    shutil.rmtree(checkout / ".git")
    git("clone", "--depth", "1", "--bare", f"file://{whole}", checkout / ".git", where=tmp_path)
    git("config", "core.bare", "false", where=checkout)
    assert {turn for _, turn, _ in run_ci()[1]} == {time.strftime("%j")}


def test_in_full_ci_scales_nothing(run_ci):
    done, asked = run_ci(CI_FULL="1", SDPO_BENCH_SCALE="1", SDPO_BENCH_TURN="0")
    assert done.returncode == 0 and {scale for scale, _, _ in asked} == {"1"}


@pytest.mark.parametrize("target", TARGETS)
def test_ci_fails_where_one_target_fails(run_ci, target):
    done, asked = run_ci(broken=target)
    assert done.returncode != 0 and "seconds by step" in done.stdout
    assert target in {words.split()[0] for _, _, words in asked}


def test_the_script_itself_can_be_read_by_bash():
    for name in ("run", "steps.sh"):
        subprocess.run(["bash", "-n", ROOT / ".ci" / name], check=True)
