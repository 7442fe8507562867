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


ALWAYS = "check docs test test-slow".split()
IN_TURN = (
    "wheels train-image test-containers".split(),
    "wheels train-image test-containers".split(),
    ".venv-unsloth/.installed test-unsloth gpu-check".split(),
    "test-wheel test-adapters check-extra".split(),
)
TARGETS = [*ALWAYS, *dict.fromkeys(target for targets in IN_TURN for target in targets)]


def targets(asked):
    return {words.split()[0] for _, _, words in asked}


@pytest.mark.parametrize("number", range(4))
def test_ci_asks_for_every_target_in_four_turns_and_at_a_tenth(run_ci, number):
    done, asked = run_ci(SDPO_BENCH_TURN=f"0{number + 96}")  # a day of the year
    assert done.returncode == 0, done.stderr
    assert targets(asked) == {*ALWAYS, *IN_TURN[number]}
    assert {(scale, turn) for scale, turn, _ in asked} == {("0.1", f"0{number + 96}")}
    table = done.stdout.partition("== seconds by step\n")[2]
    assert len(re.findall(r"^ +\d+  \S", table, re.M)) > len(targets(asked)) + 2


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


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_what_a_day_of_commits_changed_is_tried_whoever_has_the_turn(run_ci, tmp_path):
    def commit(path, hours_ago):
        file = tmp_path / "checkout" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
        when = f"{int(time.time()) - 3600 * hours_ago} +0000"
        for words in (["add", path], ["commit", "--message", path]):
            subprocess.run(
                ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words],
                cwd=tmp_path / "checkout", check=True, capture_output=True,
                env={**os.environ, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when},
            )  # fmt: skip

    subprocess.run(["git", "init"], cwd=tmp_path / "checkout", check=True, capture_output=True)
    commit("requirements.lock", 70)
    commit("tests/wheel/test_wheel.py", 30)
    commit("README.md", 10)
    # seen from the last commit, ten hours ago, the lock file is older than a day and the wheel's test is not
    assert targets(run_ci(SDPO_BENCH_TURN="2")[1]) == {*ALWAYS, *IN_TURN[2], *IN_TURN[3]}


def test_in_full_ci_scales_and_leaves_out_nothing(run_ci):
    done, asked = run_ci(CI_FULL="1", SDPO_BENCH_SCALE="1", SDPO_BENCH_TURN="0")
    assert done.returncode == 0 and {scale for scale, _, _ in asked} == {"1"}
    assert targets(asked) == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_ci_fails_where_one_target_fails(run_ci, target):
    done, asked = run_ci(broken=target, CI_FULL="1")
    assert done.returncode != 0 and "seconds by step" in done.stdout
    assert target in targets(asked)


def test_the_script_itself_can_be_read_by_bash():
    for name in ("run", "steps.sh"):
        subprocess.run(["bash", "-n", ROOT / ".ci" / name], check=True)
