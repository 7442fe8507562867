import json
import signal
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.tiny_model import make_tiny_model
from trainer.cli.reproduce import reproduce as command
from trainer.experiments import reproduce
from trainer.options.config import parse_options
from trainer.options.early import check_experiment

CONFIGS = Path(__file__).parents[3] / "configs"


def plan(**changes):
    options = {
        "model": "M", "seeds": [42, 43], "steps": 200, "configs": CONFIGS,
        "overrides": ["--num_generations", "8"], "eval_options": [],
    }  # fmt: skip
    return reproduce.stages(**(options | changes))


def test_the_stages_are_a_baseline_each_method_with_each_seed_and_one_audit():
    labels = [stage.label for stage in plan()]
    assert labels == [
        "reproduce-baseline",
        *(
            f"reproduce-{method}-{seed}"
            for seed in (42, 43)
            for method in ("grpo", "sdpo", "hybrid")
        ),
        "reproduce-audit-42",
    ]
    assert all("--num_generations" in stage.words for stage in plan() if stage.steps)


def test_the_baseline_is_measured_on_the_weights_that_the_methods_train_on():
    words = plan()[0].words
    assert "--load-in-4bit" in words and words[words.index("--dtype") + 1] == "bfloat16"
    words = plan(overrides=["--load_in_4bit=false", "--seed", "1", "--dtype", "float32"])[0].words
    assert "--load-in-4bit" not in words and words[words.index("--dtype") + 1] == "float32"
    words = plan(overrides=["--no_use_feedback", "--dtype", "float32"])[0].words
    assert words[words.index("--dtype") + 1] == "float32", "after an option without a value"


def test_the_audit_stays_in_float32_without_dropout_whatever_the_methods_are_given():
    given = [
        "--dtype",
        "bfloat16",
        "--bf16=true",
        "--lora_dropout",
        "0.1",
        "--load_in_4bit",
        "true",
    ]
    stage = plan(overrides=given)[-1]
    file, words = stage.words[3], [*stage.words[4:], "--use_cpu", "true"]
    options = parse_options(Path(file), words)
    assert (options.model.dtype, options.training.bf16) == ("float32", False)
    assert (options.model.lora_dropout, options.model.load_in_4bit) == (0.0, False)


def test_an_option_that_a_stage_sets_by_default_stands_once_where_it_is_given():
    given = ["--save-steps", "10", "--evaluate_every=25", "--no_bf16"]
    for stage in plan(overrides=given)[1:]:
        check_experiment(Path(stage.words[3]), stage.words[4:])
    assert "--evaluate_every=25" in plan(overrides=given)[1].words


def test_every_configuration_that_a_stage_names_is_there():
    for stage in plan():
        if stage.steps:
            assert Path(stage.words[stage.words.index("--config") + 1]).is_file()


def test_what_is_finished_is_left_and_what_was_cut_off_goes_on(monkeypatch, tmp_path):
    known = {
        "reproduce-baseline": reproduce.Known("b", finished=True, kind="eval"),
        "reproduce-grpo-42": reproduce.Known("g", finished=False, kind="train"),
    }
    monkeypatch.setattr(reproduce, "known_runs", lambda _: known)
    ran, said = [], []
    reproduce.run_all(
        plan(seeds=[42])[:3],
        runs_dir=tmp_path,
        execute=lambda words: ran.append(words) or 0,
        say=said.append,
    )
    assert ran[0] == ["train", "--resume", str(tmp_path / "g")]
    assert ran[1][:2] == ["train", "sdpo"] and ran[1][-2:] == ["--runs_dir", str(tmp_path)]
    assert len(ran) == 2 and "done before" in said[0]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"steps": 10}, "got 'M' and 200 steps, and g is of 'M' and 10 steps"),
        ({"model": "other"}, "got 'M' and 200 steps, and g is of 'other' and 200 steps"),
        ({"steps": 10, "finished": False}, "10 steps"),
    ],
)
def test_a_run_of_another_length_or_model_is_not_taken_for_the_stage(
    monkeypatch, tmp_path, there, said
):
    """`reproduce --steps 10` and then 200 would stand beside the published figures of 200."""
    known = reproduce.Known(
        **{"run_id": "g", "finished": True, "kind": "train", "steps": 200, "model": "M"} | there
    )
    monkeypatch.setattr(reproduce, "known_runs", lambda _: {"reproduce-grpo-42": known})
    ran = []
    with pytest.raises(reproduce.StageFailed, match=said):
        reproduce.run_all(plan(), runs_dir=tmp_path, execute=ran.append, say=print)
    assert not ran


def test_the_same_folder_in_other_words_is_the_same_model(monkeypatch, tmp_path):
    known = {
        "reproduce-baseline": reproduce.Known(
            "b", finished=True, kind="eval", model=f"{tmp_path}/x/../m"
        )
    }
    reproduce.check_same(plan(model=str(tmp_path / "m")), known)


def test_a_stage_that_fails_ends_it_with_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "known_runs", lambda _: {})
    with pytest.raises(
        reproduce.StageFailed, match=r"reproduce-baseline must end with status 0, got 3"
    ):
        reproduce.run_all(plan(), runs_dir=tmp_path, execute=lambda _: 3, say=print)


@pytest.mark.parametrize("status", [75, 130])
def test_a_stage_that_was_stopped_by_ctrl_c_says_how_to_go_on(monkeypatch, tmp_path, status):
    monkeypatch.setattr(reproduce, "known_runs", lambda _: {})
    with pytest.raises(
        reproduce.StageFailed, match="stopped in reproduce-baseline; the same command"
    ):
        reproduce.run_all(plan(), runs_dir=tmp_path, execute=lambda _: status, say=print)


def test_ctrl_c_is_left_to_the_stage_which_ends_in_its_own_time(monkeypatch):
    """Else `subprocess` would kill a training run a quarter of a second after it was asked to stop."""
    program = (
        "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(0.5); exit(75)"
    )
    monkeypatch.setattr(reproduce, "own_command", lambda *words: [sys.executable, "-c", program])
    before = signal.getsignal(signal.SIGINT)
    assert reproduce.execute_here([]) == 75
    assert signal.getsignal(signal.SIGINT) is before


def test_the_plan_counts_hours_of_measured_steps_and_names_the_others(tmp_path):
    check = tmp_path / "gpu.json"
    part = {"name": "train grpo", "figures": {"step_s": 9.0}}
    check.write_text(json.dumps({"parts": [part, {"name": "load bf16", "figures": {}}]}))
    step_s = reproduce.measured_step_s(check)
    assert step_s == {"grpo": 9.0} and reproduce.measured_step_s(tmp_path / "none") == {}
    lines = reproduce.plan_lines(plan(seeds=[42]), step_s=step_s, known={})
    assert "0.5 h" in lines[1] and "not measured" in lines[2]
    assert lines[-1].startswith("0.5 hours") and "3 stages" in lines[-1]
    lines = reproduce.plan_lines(plan(seeds=[42]), step_s={}, known={})
    assert lines[-1].startswith("4 stages whose step was not measured"), "not: 0.0 hours"


def test_ours_stand_beside_the_published_figures():
    row = {
        "algorithm": "sdpo", "seed": 42, "k": 120, "n": 257, "n_passed": 120, "n_answers": 257, "pass_at_1": 120 / 257,
        "interval_low": 0.41, "interval_high": 0.53, "step": 20,
    }  # fmt: skip
    head, line, why = reproduce.published_table([row])
    assert line.split()[:3] == ["sdpo", "42", "20"], "ours need not be of step 200"
    assert "46.69 % (120 of 257; 41.0 to 53.0)" in line and "1.95 % (5 of 257)" in line
    sampled = row | {"k": None, "n_passed": 240, "n_answers": 514}
    assert "(240 of 514 answers; 41.0 to 53.0)" in reproduce.published_table([sampled])[1]
    assert "p = 0.50" in why and "published" in head


def test_a_plan_is_printed_and_nothing_is_run(tmp_path):
    run = CliRunner().invoke(
        command, ["--plan", "--configs", str(CONFIGS), "--runs-dir", str(tmp_path / "runs")]
    )
    assert run.exit_code == 0, run.output
    assert "reproduce-hybrid-44" in run.output and not (tmp_path / "runs").exists()


def test_seeds_that_are_no_numbers_are_refused(tmp_path):
    run = CliRunner().invoke(command, ["--plan", "--seeds", "42;43", "--configs", str(CONFIGS)])
    assert run.exit_code == 2 and "42;43" in run.output


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.long
def test_the_whole_benchmark_runs_and_is_not_run_twice(tmp_path, capfd):
    model = make_tiny_model(tmp_path / "model")
    runs = tmp_path / "runs"
    configs = tmp_path / "configs"
    configs.mkdir()
    small = (
        (CONFIGS / "smoke-cpu.yaml")
        .read_text()
        .replace('save_strategy: "no"', "save_strategy: steps")
    )
    for method in reproduce.METHODS:
        (configs / f"{method}.yaml").write_text(small)
    words = [
        *("--model", str(model), "--seeds", "1", "--steps", "2", "--configs", str(configs)),
        *("--runs-dir", str(runs), "--eval-option=--dataset", "--eval-option=embedded/test"),
        *("--eval-option=--max-new-tokens", "--eval-option=8", "--eval-option=--sandbox"),
        *("--eval-option=process", "--sandbox", "process", "--dataset", "embedded/train"),
        *("--eval_dataset", "embedded/test", "--max_completion_length", "8", "--lora_r", "4"),
    ]
    first = CliRunner().invoke(command, words)
    printed = capfd.readouterr().out
    assert first.exit_code == 0, first.output + printed
    assert "1.95 %" in first.output and "not distinguishable" in printed
    second = CliRunner().invoke(command, words)
    assert second.output.count("done before") == 5 and len(list(runs.iterdir())) == 5


def test_a_query_that_the_runs_cannot_answer_says_where_to_look(monkeypatch, tmp_path):
    """The command may fail, or end well and write nothing."""
    for status in (1, 0):
        monkeypatch.setattr(reproduce, "execute_here", lambda *_, status=status, **__: status)
        with pytest.raises(reproduce.StageFailed, match="must be readable; see `sdpo-bench runs"):
            reproduce.asked("FROM leaderboard", tmp_path)
