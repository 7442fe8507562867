"""Both corpora through the runner: ours always, the twenty shared ones where SDPO_BENCH_ATTACKS names them."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from sandbox import attack
from sandbox.cli import sandbox

OWN = Path(__file__).parents[1] / "attacks"
NEED_A_CONTAINER = {"escape_looks_for_processes", "escape_looks_around", "value_hash_collisions"}
"""Those that only a root of its own stops, and one that takes its whole time."""
TAKE_THEIR_TIME = set(
    "value_huge_list value_hash_collisions value_huge_int value_long_digits value_operand_bombs "
    "value_one_hash_for_all value_range_unrolled value_packed_bomb exhaust_prints exhaust_no_ears "
    "exhaust_del_in_call exhaust_free_threads exhaust_maps exhaust_pipe_crumbs exhaust_drip "
    "exhaust_sleepers p16_fork_bomb p19_infinite_loop".split()
)
"""A second and more each, and others of their kind are quick: they are tried in the slow tests."""
SHARED = os.environ.get("SDPO_BENCH_ATTACKS")
SLOW = pytest.param(True, marks=pytest.mark.slow)
every = pytest.mark.parametrize("whole", [False, SLOW], ids=["quick ones", "all"])


def _report(folder, backend, select=lambda _: True):
    return attack.run([a for a in attack.load(folder) if select(a)], backend)


def _in_time(attack, whole):
    return whole or attack.name not in TAKE_THEIR_TIME


def _failed(report):
    return [(r.name, r.problems, r.detail) for r in report.attacks if r.problems]


def test_there_are_more_than_thirty_attacks_and_every_file_is_in_the_index():
    attacks = attack.load(OWN)
    assert len(attacks) >= 50
    assert {a.name for a in attacks} == {f.stem for f in OWN.glob("*.py")}
    assert len({a.name for a in attacks if a.expect_pass}) >= 10


def _on_the_process_backend(category, whole=True):
    report = _report(
        OWN,
        "process",
        lambda a: (
            a.category == category
            and a.name not in NEED_A_CONTAINER
            and not a.expect_pass
            and _in_time(a, whole)
        ),
    )
    assert _failed(report) == []


# Those that are made to take their whole time run with the docker tests.
@pytest.mark.parametrize("category", ["forge", "source", "escape"])
def test_no_attack_achieves_anything_on_the_process_backend(category):
    _on_the_process_backend(category)


@every
def test_no_attack_by_values_achieves_anything_on_the_process_backend(whole):
    _on_the_process_backend("value", whole)


@pytest.mark.docker
@pytest.mark.parametrize(
    "categories",
    [
        ("forge", "source", "escape"),
        # judged by the same code as those of the process backend above
        pytest.param(("value",), marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_no_attack_achieves_anything_on_docker(categories):
    report = _report(OWN, "docker", lambda a: a.category in categories and not a.expect_pass)
    assert _failed(report) == []


@pytest.mark.docker
@every
def test_no_attack_exhausts_anything_on_docker(whole):
    report = _report(
        OWN,
        "docker",
        lambda a: a.category == "exhaust" and not a.expect_pass and _in_time(a, whole),
    )
    assert _failed(report) == []


# What must pass may need most of its time: on a machine that has other things to do it fails, rightly.
@pytest.mark.alone
@pytest.mark.parametrize(
    "backend",
    ["process", pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow])],
)
def test_what_only_looks_like_an_attack_passes(backend):
    exhausting = backend == "docker"
    report = _report(
        OWN, backend, lambda a: a.expect_pass and (exhausting or a.category != "exhaust")
    )
    assert _failed(report) == []
    assert len(report.attacks) >= 10


def test_every_attack_is_of_a_kind_that_is_tried():
    kinds = {"forge", "source", "escape", "value", "exhaust"}
    assert {a.category for a in attack.load(OWN)} == kinds
    left_out = {name for name in TAKE_THEIR_TIME if not name.startswith("p")}
    assert left_out <= {a.name for a in attack.load(OWN)}


@pytest.mark.docker
@pytest.mark.skipif(SHARED is None, reason="SDPO_BENCH_ATTACKS names no folder")
@every
def test_no_shared_attack_achieves_anything_on_docker(whole):
    report = _report(Path(SHARED), "docker", lambda a: not a.expect_pass and _in_time(a, whole))
    assert _failed(report) == []


@pytest.mark.docker
@pytest.mark.alone
@pytest.mark.skipif(SHARED is None, reason="SDPO_BENCH_ATTACKS names no folder")
def test_what_may_pass_of_the_shared_ones_passes_on_docker():
    assert _failed(_report(Path(SHARED), "docker", lambda a: a.expect_pass)) == []


@pytest.mark.docker
def test_without_its_layers_the_sandbox_is_broken_so_the_attacks_are_real():
    escapes = [
        a
        for a in attack.load(OWN)
        if a.name in ("escape_proc_others", "escape_files", "escape_trace")
    ]
    report = attack.run(
        escapes, "docker", without=frozenset(("seccomp", "landlock", "uid", "chroot"))
    )
    assert report.forged_passes >= 2


def test_the_command_counts_and_exits_with_one(tmp_path):
    (tmp_path / "cheat.py").write_text("def f(x): return 9\n")
    entry = {
        "name": "cheat",
        "file": "cheat.py",
        "entry_point": "f",
        "test_imports": [],
        "must_finish_s": 20,
    }
    entry |= {"assertions": ["assert f(3) == 9"], "expect": "fail"}
    (tmp_path / "index.json").write_text(json.dumps([entry]))
    out = tmp_path / "out.json"
    run = CliRunner().invoke(
        sandbox, ["attack", str(tmp_path), "--backend", "process", "--json", str(out)]
    )
    assert run.exit_code == 1 and "1 forged passes" in run.output
    report = json.loads(out.read_text())
    assert report["forged_passes"] == 1 and report["broken"] == report["poisoned"] == 0
    assert report["attacks"][0]["verdicts"] == ["passed"]


def test_the_command_wants_an_index(tmp_path):
    run = CliRunner().invoke(sandbox, ["attack", str(tmp_path)])
    assert run.exit_code == 1 and "must hold index.json" in run.output
    (tmp_path / "index.json").write_text("[{}]")
    run = CliRunner().invoke(sandbox, ["attack", str(tmp_path)])
    assert run.exit_code == 1 and "an attack must have" in run.output
