"""What differs between two runs is named, unless it is the method's own or repeats a run."""

from hashlib import sha256

import pytest

from analysis.records import RunInfo
from analysis.statistics.conditions import (
    UNKNOWN,
    Conditions,
    conditions,
    differences,
    listed,
    mixed,
)

TRAINED = RunInfo(
    run_id="r", kind="train", algorithm="sdpo", label="l", created_at="2026-01-01T00:00:00", config_sha256="c",
    config={"bench": {"alpha": 0.5, "timeout_s": 5}, "training": {"learning_rate": 1e-5}, "beside": 3},
    seed=1, model="/models/qwen", dataset="d", dataset_sha256="unknown", protocol="p",
    protocol_sha256="0123456789abcdef", sandbox="docker", git_commit="a" * 40, git_dirty=False,
    packages={"torch": "2.0", "rich": "1"},
)  # fmt: skip


def made(*, step=None, bench=None, training=None, **changes):
    config = {
        "bench": TRAINED.config["bench"] | (bench or {}),
        "training": TRAINED.config["training"] | (training or {}),
        "beside": 3,
    }
    return conditions(TRAINED.model_copy(update={"config": config} | changes), step=step)


PLAIN = made()
BASE = made(algorithm=None, kind="eval", adapter="runs/x/adapter")


def test_a_trained_run_is_its_method_and_everything_that_moves_a_figure():
    assert PLAIN == Conditions(
        "sdpo",
        {"alpha": "0.5"},
        {
            "model": "/models/qwen",
            "sandbox": "docker",
            "code version": "a" * 12,
            "training problems": "d",
            "prompt form": "p (sha256 0123456789ab)",
            "version of torch": "2.0",
            "timeout_s": "5",
            "learning_rate": "1e-05",
            "beside": "3",
        },
        {
            "model": "/models/qwen",
            "sandbox": "docker",
            "code version": "a" * 12,
            "timeout_s": "5",
            "version of torch": "2.0",
        },
    )
    assert made(step=4).rest["step"] == "4"


def test_an_untrained_policy_is_its_weights_and_the_judge():
    assert BASE.algorithm is None and BASE.method == {}
    assert BASE.rest == {"adapter": "runs/x/adapter"}
    assert BASE.evaluated == PLAIN.evaluated | {
        "problems": "d",
        "prompt form": PLAIN.rest["prompt form"],
    }
    assert "sandbox" not in made(sandbox="unknown").rest
    assert "model" not in made(model=None).rest
    assert "code version" not in made(git_commit=None).rest


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2, "training": {"seed": 2, "data_seed": 2}},
        {"bench": {"runs_dir": "elsewhere", "label": "x", "seed": 9}},
        {"training": {"output_dir": "y", "logging_steps": 5, "save_steps": 7, "hub_token": "t"}},
        {"label": "m", "run_id": "s", "packages": {"torch": "2.0", "rich": "2"}},
    ],
)
def test_a_seed_and_what_moves_no_figure_are_no_difference(changes):
    assert differences([PLAIN], [made(**changes)]) == mixed([PLAIN, made(**changes)]) == ()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training": {"learning_rate": 1e-6}}, "learning_rate (1e-05, 1e-06)"),
        ({"training": {"weight_decay": 0.1}}, "weight_decay (not set, 0.1)"),
        ({"bench": {"timeout_s": 9}}, "timeout_s (5, 9)"),
        ({"model": "m"}, "model (/models/qwen, m)"),
        (
            {"model_sha256": "f" * 64},
            "model (/models/qwen, qwen (sha256 ffffffffffff))",
        ),
        ({"sandbox": "gvisor"}, "sandbox (docker, gvisor)"),
        ({"dataset": "e"}, "training problems (d, e)"),
        ({"dataset_sha256": "b" * 64}, "training problems (d, d (sha256 bbbbbbbbbbbb))"),
        ({"protocol": "q"}, "prompt form (p (sha256 0123456789ab), q (sha256 0123456789ab))"),
        ({"git_commit": "b" * 40}, "code version (aaaaaaaaaaaa, bbbbbbbbbbbb)"),
        (
            {"git_dirty": True, "git_diff": "-x"},
            f"code version ({'a' * 12}, {'a' * 12} changed ({sha256(b'-x').hexdigest()[:8]}))",
        ),
        ({"packages": {"torch": "2.1"}}, "version of torch (2.0, 2.1)"),
        ({"step": 3}, "step (not set, 3)"),
    ],
)
def test_everything_else_is_named_with_both_values(changes, named):
    assert differences([PLAIN], [made(**changes)]) == (named,)
    assert mixed([PLAIN, PLAIN, made(**changes)]) == differences([PLAIN], [made(**changes)])


def test_unlike_changes_of_one_commit_are_unlike_code():
    one, other = (made(git_dirty=True, git_diff=diff) for diff in ("-x", "-y"))
    assert len(differences([one], [other])) == 1
    assert differences([one], [made(git_dirty=True, git_diff="-x")]) == ()


def test_what_a_method_brings_differs_between_methods_but_not_within_one():
    other = made(bench={"alpha": 0.7})
    assert differences([PLAIN], [other]) == ()
    assert mixed([PLAIN, other]) == ("alpha (0.5, 0.7)",)
    assert mixed([PLAIN, made(algorithm="grpo")]) == ("algorithm (grpo, sdpo)",)
    assert mixed([PLAIN, BASE]) == ("algorithm (None, sdpo)",)


def test_an_untrained_policy_differs_from_a_trained_one_only_in_how_they_were_evaluated():
    assert differences([BASE], [PLAIN]) == differences([PLAIN], [BASE]) == ()
    assert differences([BASE], [made(model="m")]) == ("evaluated with model (/models/qwen, m)",)
    slow = made(bench={"timeout_s": 9})
    assert differences([BASE], [slow]) == ("evaluated with timeout_s (5, 9)",)
    assert differences([BASE], [UNKNOWN]) == ()


def evaluation(**changes):
    settings = {
        "timeout_s": 5, "dtype": "bfloat16", "load_in_4bit": False, "chat_template_kwargs": {},
        "chat_template": None, "engine": "local", "api_base": [],
    }  # fmt: skip
    config = settings | {name: changes.pop(name) for name in settings if name in changes}
    return TRAINED.model_copy(
        update={"run_id": "e", "kind": "eval", "algorithm": None, "config": config} | changes
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sandbox": "process"}, "sandbox (docker, process)"),
        ({"timeout_s": 1}, "timeout_s (5, 1)"),
        ({"load_in_4bit": True}, "load_in_4bit (False, True)"),
        ({"dtype": "float32"}, "dtype (bfloat16, float32)"),
        ({"dtype": "auto", "hardware": {"dtype": "float32"}}, "dtype (bfloat16, float32)"),
        (
            {"chat_template_kwargs": {"enable_thinking": True}},
            "chat_template_kwargs ({}, {'enable_thinking': True})",
        ),
        ({"chat_template_sha256": "f00"}, "chat template (the model's, f00)"),
        ({"engine": "vllm"}, "engine (local, vllm)"),
        ({"api_base": ["http://x"]}, "engine (local, a server)"),
        ({"model": "m"}, "model (/models/qwen, m)"),
        ({"git_commit": "b" * 40}, "code version (aaaaaaaaaaaa, bbbbbbbbbbbb)"),
        ({"dataset_sha256": "c" * 64}, "problems (d, d (sha256 cccccccccccc))"),
        ({"packages": {"torch": "2.1"}}, "version of torch (2.0, 2.1)"),
    ],
)
def test_seeds_that_were_evaluated_otherwise_have_no_winner(changes, named):
    grpo = TRAINED.model_copy(update={"algorithm": "grpo"})
    first = conditions(grpo, evaluation=evaluation())
    assert differences([first], [conditions(TRAINED, evaluation=evaluation())]) == ()
    other = conditions(TRAINED, evaluation=evaluation(**changes))
    assert differences([first], [other]) == (f"evaluated with {named}",)
    assert mixed([first, conditions(grpo, evaluation=evaluation(**changes))]) == (
        f"evaluated with {named}",
    )


def test_what_an_evaluation_does_not_tell_is_no_difference():
    told = conditions(TRAINED, evaluation=evaluation())
    assert differences([told], [PLAIN]) == mixed([told, PLAIN]) == ()
    silent = evaluation(sandbox="unknown", config={"imported": []}, packages={}, git_commit=None)
    assert differences([told], [conditions(TRAINED, evaluation=silent)]) == ()


def test_an_installed_package_is_known_by_its_version():
    first, second = (
        made(git_commit=None, packages={"sdpo-bench": version}) for version in ("0.1.0", "0.2.0")
    )
    assert differences([first], [second]) == ("code version (0.1.0, 0.2.0)",)


def test_an_image_built_again_from_the_same_source_is_the_same_sandbox():
    first = made(sandbox="docker sha256:0a guest 7eff84aec295 Python 3.13.5")
    again = made(sandbox="docker sha256:1b guest 7eff84aec295 Python 3.13.5")
    assert differences([first], [again]) == ()
    for other in (
        "docker sha256:1b guest 000000000000 Python 3.13.5",
        "docker sha256:1b guest 7eff84aec295 Python 3.13.6",
        "docker sha256:1b guest 7eff84aec295 Python 3.13.5 with numpy==2.4.6",
        "gvisor sha256:0a guest 7eff84aec295 Python 3.13.5",
        "docker sha256:0a",
    ):
        assert differences([first], [made(sandbox=other)])[0].startswith("sandbox (")
    # of images before they said what is in them the id is all that is known
    assert differences([made(sandbox="docker sha256:0a")], [made(sandbox="docker sha256:1b")])


def test_two_untrained_policies_may_be_of_other_weights():
    other = made(algorithm=None, kind="eval", adapter=None, model="m")
    assert differences([BASE], [other]) == ()
    adapted = made(algorithm=None, kind="eval", adapter="runs/z/adapter")
    assert differences([BASE], [adapted]) == (), "a policy from elsewhere, whose run is not at hand"
    assert mixed([BASE, made(algorithm=None, adapter="runs/y/adapter")]) == ()
    slow = made(algorithm=None, kind="eval", sandbox="gvisor")
    assert differences([BASE], [slow]) == ("evaluated with sandbox (docker, gvisor)",)


def test_what_a_reader_asks_for_first_is_named_first_and_the_rest_is_counted():
    other = made(model="m", training={"learning_rate": 1, "beta1": 2, "adam": 3}, dataset="e")
    found = differences([PLAIN], [other])
    assert [each.split(" (")[0] for each in found] == [
        "model", "training problems", "learning_rate", "adam", "beta1",
    ]  # fmt: skip
    assert listed(found[:4]) == ", ".join(found[:4])
    assert listed(found) == ", ".join(found[:4]) + " and 1 more"


def test_a_long_value_is_cut():
    (found,) = differences([PLAIN], [made(training={"x": "y" * 61})])
    assert found == f"x (not set, {'y' * 57}...)"
    assert differences([PLAIN], [made(training={"x": "y" * 60})]) == (f"x (not set, {'y' * 60})",)
