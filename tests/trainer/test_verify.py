import json
import shutil
from pathlib import Path

import pytest

from trainer.verify import check_losses, check_prompts

GOLDEN = Path(__file__).parent.parent / "golden" / "sdpo"


def test_every_recorded_loss_case_is_within_its_tolerances():
    checks = check_losses(GOLDEN)
    assert [check.case for check in checks if not check.passed] == []
    assert len(checks) == 13


def test_every_recorded_teacher_prompt_scenario_agrees():
    checks = check_prompts(GOLDEN)
    assert [check for check in checks if not check.passed] == []
    assert len(checks) == 9


@pytest.mark.parametrize(
    ("case", "key", "value"),
    [
        ("p05", "temperature", 1.0),
        ("p02", "alpha", 0.0),
        ("p06", "add_tail", True),
        ("p01", "is_clip", 1.0),
        ("p07", "distillation_topk", 6),
        ("p13", "loss_agg_mode", "token-mean"),
    ],
)
def test_a_case_run_with_a_wrong_setting_fails(tmp_path, case, key, value):
    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["cases"] = [c for c in manifest["cases"] if c["id"] == case]
    manifest["cases"][0]["config"][key] = value
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert not check_losses(tmp_path)[0].passed


def test_a_folder_of_another_form_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"manifest\.json must be a readable JSON file"):
        check_losses(tmp_path)
