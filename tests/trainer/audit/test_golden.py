import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from trainer.audit.golden import check_losses, check_prompts
from trainer.cli.train import verify

GOLDEN = Path(__file__).parents[2] / "golden" / "sdpo"


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


@pytest.fixture
def changed(tmp_path):
    """A copy of the recorded cases with one of them changed."""

    def write(change, file="manifest.json"):
        shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
        content = json.loads((tmp_path / file).read_text())
        change(content)
        (tmp_path / file).write_text(json.dumps(content))
        return tmp_path

    return write


@pytest.mark.parametrize(
    "mode", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]
)
def test_each_of_the_references_aggregations_is_checked_against_its_formula(changed, mode):
    # case p13 aggregates by sequence means; its recorded token losses give the other scalars by hand
    arrays = np.load(GOLDEN / "p13.npz")
    mask = arrays["response_mask"].astype(bool)
    if "self_distillation_mask" in arrays:
        mask &= arrays["self_distillation_mask"].astype(bool)[:, None]
    losses = np.where(mask, arrays["expected_per_token"], 0.0).astype(np.float64)
    n_tokens = mask.sum(axis=1)
    used = n_tokens > 0
    expected = {
        "token-mean": losses.sum() / n_tokens.sum(),
        "seq-mean-token-mean": (losses.sum(axis=1)[used] / n_tokens[used]).mean(),
        "seq-mean-token-sum": losses.sum(axis=1)[used].mean(),
        "seq-mean-token-sum-norm": losses.sum() / mask.shape[1],
    }[mode]

    def change(content):
        content["cases"] = [case for case in content["cases"] if case["id"] == "p13"]
        content["cases"][0]["config"]["loss_agg_mode"] = mode
        content["cases"][0]["file"] = "changed.npz"

    folder = changed(change)
    np.savez(folder / "changed.npz", **{**arrays, "expected_loss": np.asarray(expected)})
    (check,) = check_losses(folder)
    assert check.loss <= check.loss_tolerance


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("config", "loss_agg_mode"), "seq-median", "loss_agg_mode 'seq-median', known are 'token-mean'"),
        (("config", "mode"), "nucleus", "mode 'nucleus', known are"),
        (("config", "add_tail"), "perhaps", "add_tail 'perhaps'"),
        (("config", "tail_power"), 2, "the setting tail_power, which is not known"),
        (("config", "alpha"), None, "case 'p01'"),
        (("config", "temperature"), 0.0, "temperature must be positive"),
        (("config",), {}, "no 'loss_agg_mode'|no 'mode'|no 'add_tail'"),
        (("config",), None, "case 'p01'"),
        (("file",), "absent.npz", "absent.npz"),
        (("file",), "reprompt.json", "case 'p01'"),
        (("file",), 5, "case 'p01'"),
        (("tolerance",), {}, "no 'loss_abs'"),
        (("tolerance", "loss_abs"), "small", "tolerance loss_abs 'small', which is no number"),
        (("tolerance", "grad_abs"), float("inf"), "tolerance grad_abs inf"),
        (("tolerance", "per_token_abs"), -1e-6, "tolerance per_token_abs -1e-06"),
        (("tolerance", "per_token_abs"), float("nan"), "tolerance per_token_abs nan"),
        (("tolerance", "loss_abs"), 10**400, "case 'p01'"),
    ],
)  # fmt: skip
def test_a_case_in_another_form_is_one_line_that_names_it(changed, place, value, said):
    def change(content):
        case = content["cases"][0]
        for key in place[:-1]:
            case = case[key]
        case[place[-1]] = value

    folder = changed(change)
    with pytest.raises(ValueError, match=said) as error:
        check_losses(folder)
    assert "\n" not in str(error.value)
    found = CliRunner().invoke(verify, [str(folder)])
    assert found.exit_code == 1 and found.output.count("\n") == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("cases"),
        lambda content: content.pop("default_config"),
        lambda content: content["cases"].append("no case"),
        lambda content: content["cases"][0].pop("expected"),
        lambda content: content["cases"][0]["input"]["config"].update(shout=True),
        lambda content: content["default_config"].update(reprompt_template=3),
        lambda content: content["cases"][0]["input"].update(rewards=[1.0]),
    ],
)
def test_a_scenario_in_another_form_is_one_line(changed, change):
    folder = changed(change, "reprompt.json")
    with pytest.raises(ValueError, match=r"reprompt\.json must") as error:
        check_prompts(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["manifest.json", "reprompt.json"])
@pytest.mark.parametrize("name", ["\x1b[31mred\n", "\ud800", None, ["a"]])
def test_no_name_of_a_case_steers_the_terminal(changed, file, name):
    def change(content):
        content["cases"] = content["cases"][:1]
        content["cases"][0]["id"] = name
        if file == "reprompt.json":
            content["cases"][0]["expected"]["teacher_messages"][0] = name

    found = CliRunner().invoke(verify, [str(changed(change, file))])
    assert isinstance(found.exception, SystemExit | None), found.exception
    assert "\x1b" not in found.output and "cases agree" in found.output
    assert not any(line.strip() == "" for line in found.output.splitlines())


def test_an_array_that_is_not_known_is_named(changed):
    arrays = dict(np.load(GOLDEN / "p01.npz"))
    folder = changed(lambda content: content["cases"][0].update(file="more.npz"))
    np.savez(folder / "more.npz", **arrays, token_weights=np.ones(3))
    with pytest.raises(ValueError, match="the array token_weights"):
        check_losses(folder)


def test_a_folder_of_another_form_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"manifest\.json must be a readable JSON file"):
        check_losses(tmp_path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("expected_loss", lambda a: a[None]),
        ("expected_per_token", lambda a: a[:, :1]),
        ("expected_grad_student_logits", lambda a: a[..., :1]),
        ("response_mask", lambda a: a[:1]),
        ("responses", lambda a: a[:, :-1]),
        ("old_log_probs", lambda a: a[0]),
        ("teacher_logits", lambda a: a[..., :-1]),
        ("student_logits", lambda a: a[0]),
    ],
)
def test_an_array_of_another_shape_is_named_and_never_stretched(changed, name, change):
    arrays = dict(np.load(GOLDEN / "p01.npz"))
    folder = changed(lambda content: content["cases"][0].update(file="other.npz"))
    np.savez(folder / "other.npz", **{**arrays, name: change(arrays[name])})
    with pytest.raises(ValueError, match="case 'p01'.* of shape "):
        check_losses(folder)


@pytest.mark.parametrize("name", ["student_logits", "teacher_logits", "expected_loss"])
def test_a_value_that_is_no_number_fails_its_case(changed, name):
    arrays = dict(np.load(GOLDEN / "p01.npz"))
    folder = changed(lambda content: content["cases"][0].update(file="nan.npz"))
    arrays[name] = arrays[name].copy()
    arrays[name][...] = np.nan
    np.savez(folder / "nan.npz", **arrays)
    assert not check_losses(folder)[0].passed


@pytest.mark.parametrize("file", ["manifest.json", "reprompt.json", "p01.npz"])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.95])
def test_a_file_that_was_cut_off_is_one_line(tmp_path, file, share):
    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: int(share * len(whole))])
    found = CliRunner().invoke(verify, [str(tmp_path)])
    assert found.exit_code == 1 and found.output.count("\n") == 1 and "Error: " in found.output


@pytest.mark.parametrize("file", ["manifest.json", "reprompt.json"])
def test_no_case_at_all_is_no_agreement(changed, file):
    folder = changed(lambda content: content.update(cases=[]), file)
    found = CliRunner().invoke(verify, [str(folder)])
    assert found.exit_code == 1 and "must hold a list of cases, got none" in found.output


def test_a_table_that_cannot_be_written_is_said_before_the_work(tmp_path):
    found = CliRunner().invoke(verify, [str(GOLDEN), "--json", str(tmp_path / "none" / "t.json")])
    assert found.exit_code == 1 and found.output.startswith("Error: --json must name a file")


@pytest.mark.parametrize("name", ["student_logits", "teacher_logits", "old_log_probs"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_counts_in_the_mask_and_never_outside_it(changed, name, value):
    folder = changed(lambda m: m.update(cases=[c for c in m["cases"] if c["id"] == "p01"]))
    arrays = dict(np.load(folder / "p01.npz"))
    taught = arrays["self_distillation_mask"].astype(bool)[:, None]
    mask = arrays["response_mask"].astype(bool) & taught
    assert mask.any() and not mask.all()
    unread = {"expected_per_token": np.nan, "expected_grad_student_logits": 0.0, name: value}
    for array, filling in unread.items():
        arrays[array][~mask] = filling
    np.savez(folder / "p01.npz", **arrays)
    assert check_losses(folder)[0].passed

    arrays[name][tuple(np.argwhere(mask)[0])] = np.nan
    np.savez(folder / "p01.npz", **arrays)
    assert not check_losses(folder)[0].passed
