"""The attacks of tests/attacks through a server: what they achieve is nothing there, too."""

from pathlib import Path

import pytest

from sandbox import attack
from tests.sandbox.test_attacks import NEED_A_CONTAINER
from tests.turns import in_turn

pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
OWN = Path(__file__).parents[2] / "attacks"


def failed(attacks, backend):
    report = attack.run(attacks, backend, over_http=True)
    assert report.backend.endswith("over http")
    return [(r.name, r.problems, r.detail) for r in report.attacks if r.problems]


def test_no_forged_value_or_result_passes_over_http():
    kinds = ("forge", "value", "source")
    chosen = [a for a in attack.load(OWN) if a.category in kinds and a.name not in NEED_A_CONTAINER]
    assert len(chosen) > 40
    assert failed(chosen[::8], "process") == []


@pytest.mark.slow
@pytest.mark.docker
def test_no_attack_achieves_anything_on_docker_over_http():
    assert failed(in_turn(attack.load(OWN)), "docker") == []
