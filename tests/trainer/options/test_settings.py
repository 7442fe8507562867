"""The settings that people compare: what each is shown, which are refused, which are shipped."""

import math
from collections import defaultdict
from pathlib import Path

import pytest

from analysis.queries import eval_curve, run_query
from analysis.statistics.intervals import wilson_of_mean
from analysis.warehouse.warehouse import connect, ingest
from tests.trainer.finished import Finished, passed
from trainer.options.checks import check_settings
from trainer.options.config import ConfigError, parse_options
from trainer.training.train import train

CONFIGS = Path(__file__).parents[3] / "configs"


def test_a_reference_teacher_is_shown_the_reference_of_each_problem_and_no_peer(run):
    from evaluator.problems.mbpp import load_problems

    references = {p.task_id: p.reference for p in load_problems("embedded/train").problems}
    finished = run("sdpo", teacher_context="reference")
    assert {passed(row) for row in finished.rows["rollouts"]} == {True, False}
    for row in finished.rows["rollouts"]:
        assert references[row["task_id"]] in row["teacher_prompt"]
        assert row["demonstration_member"] is None and not row["feedback_used"]
        assert row["teacher_context"] == "reference"
    assert finished.metric("teacher/reprompted_fraction") == [1.0] * 3
    assert finished.metric("teacher/solution_fraction") == [1.0] * 3


def test_a_feedback_teacher_is_shown_feedback_alone(run):
    finished = run("sdpo", teacher_context="feedback")
    for row in finished.rows["rollouts"]:
        assert row["demonstration_member"] is None
        assert row["feedback_used"] == (not passed(row)) == (row["teacher_prompt"] is not None)
        assert row["teacher_context"] == (None if passed(row) else "feedback")


@pytest.mark.parametrize("context", ["reference", pytest.param("feedback", marks=pytest.mark.slow)])
def test_an_audit_derives_other_contexts_of_the_teacher_too(run, context):
    finished = run("audit", teacher_context=context)
    assert {layer.name: layer.passed for layer in finished.layers}["teacher"]
    assert all(layer.passed for layer in finished.layers)


def test_an_audit_derives_the_weights_of_problems_too(run):
    finished = run("audit", problem_weight="pass_rate")
    assert all(layer.passed for layer in finished.layers)
    assert {"aggregation.weight"} < {row["layer"] for row in finished.rows["audits"]}


@pytest.mark.parametrize(
    ("algorithm", "changes", "message"),
    [
        ("anchored", {}, "teacher_context 'peer'; set it to nothing"),
        ("routed", {"aggregation": "reference"}, "use dapo and token_mean"),
        ("routed", {"loss_type": "grpo"}, "use dapo and token_mean"),
        ("grpo", {"problem_weight": "pass_rate"}, "it belongs to sdpo, hybrid, audit"),
        ("sdpo", {"advantage_clip": 0.5}, "it belongs to rlsd"),
        ("hybrid", {"anchor_weight": 1.0}, "it belongs to anchored"),
    ],
)
def test_a_setting_that_would_not_be_what_its_name_says_is_refused(
    config_file, algorithm, changes, message
):
    options = parse_options(config_file(**changes))
    with pytest.raises(ConfigError, match=message):
        train(algorithm, options, say=lambda _: None)


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher_context": "peers"},
        {"problem_weight": "sqrt"},
        {"advantage_clip": 1.5},
        {"advantage_mix": -0.1},
        {"advantage_mix_steps": -1},
        {"anchor_weight": -1.0},
    ],
)
def test_a_setting_out_of_range_is_refused(config_file, changes):
    with pytest.raises(ConfigError, match=f"{next(iter(changes))} must be in range"):
        parse_options(config_file(**changes))


@pytest.mark.parametrize(
    ("name", "base", "changed"),
    [
        ("sdpo-reference", "sdpo", {"teacher_context": "reference"}),
        ("sdpo-pass-rate", "sdpo", {"problem_weight": "pass_rate"}),
        ("routed", "sdpo", {}),
        ("rlsd", "sdpo", {"advantage_mix": 0.5, "advantage_mix_steps": 50}),
        ("anchored", "sdpo", {"divergence": "reverse_kl", "teacher_context": "nothing"}),
        ("sft", "grpo", {}),
    ],
)
def test_a_setting_differs_from_what_it_is_compared_with_in_what_it_is_named_for(
    name, base, changed
):
    ours, theirs = (
        parse_options(CONFIGS / f"{n}.yaml", ["--bf16", "false"]).resolved() for n in (name, base)
    )
    for part in ours:
        different = {
            key: ours[part][key] for key in ours[part] if ours[part][key] != theirs[part][key]
        }
        assert different == (changed if part == "bench" else {})


def test_the_rich_feedback_configuration_is_that_of_the_paper():
    options = parse_options(CONFIGS / "sdpo-rich-feedback.yaml", ["--bf16", "false"])
    bench, training = options.bench, options.training
    assert (bench.divergence, bench.support, bench.distill_top_k) == ("reverse_kl", "topk_tail", 20)
    assert (bench.ema_rate, bench.importance_clip, bench.success_threshold) == (0.01, 2.0, 0.5)
    assert (training.learning_rate, training.get_warmup_steps(1600)) == (1e-6, 0)
    assert training.num_generations == 8 and training.generation_batch_size == 32 * 8
    a_step = training.per_device_train_batch_size * training.gradient_accumulation_steps
    assert a_step == 8, "one problem an update"


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("sdpo-reference", "sdpo"),
        ("sdpo-pass-rate", "sdpo"),
        ("sdpo-rich-feedback", "sdpo"),
        ("routed", "routed"),
        ("rlsd", "rlsd"),
        ("anchored", "anchored"),
        ("sft", "sft"),
    ],
)
def test_every_shipped_setting_is_one_that_its_algorithm_accepts(name, algorithm):
    options = parse_options(CONFIGS / f"{name}.yaml", ["--bf16", "false"])
    check_settings(algorithm, options)
    assert f"`sdpo-bench train {algorithm} --config configs/{name}.yaml`" in options.config_text


def test_an_evaluation_on_the_way_also_samples_and_says_mean_at_n(
    config_file, monkeypatch, hashed_grades, tmp_path
):
    monkeypatch.setattr("evaluator.evaluation.evaluate.grade", hashed_grades.grade)
    options = parse_options(
        config_file(
            max_steps=2,
            max_completion_length=6,
            evaluate_every=2,
            eval_dataset="embedded/test",
            eval_max_problems=3,
            eval_samples=4,
        )
    )
    said = []
    result = train("sft", options, say=said.append)
    finished = Finished(result)
    by_eval = defaultdict(list)
    for row in finished.rows["eval_results"]:
        by_eval[row["eval_id"]].append(row)
    assert {name: len(rows) for name, rows in by_eval.items()} == {
        "step-0": 3,
        "step-0-sampled": 12,
        "step-2": 3,
        "step-2-sampled": 12,
    }
    texts = [{row["completion"] for row in by_eval[f"step-{n}-sampled"]} for n in (0, 2)]
    assert len(texts[0]) > 3, "the samples of a problem differ"
    (decoding,) = {
        row["decoding"] for row in finished.rows["evals"] if row["eval_id"].endswith("sampled")
    }
    assert decoding.startswith("temperature 0.7, top_p 1, n 4")
    assert len({row["dataset_sha256"] for row in finished.rows["evals"]} - {None}) == 1
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        stored = run_query(connection, "FROM mean_at_n ORDER BY step").records()
        curve = eval_curve(connection).records()
    for row, step in zip(stored, (0, 2), strict=True):
        shares = defaultdict(list)
        for answer in by_eval[f"step-{step}-sampled"]:
            shares[answer["task_id"]].append(answer["passed"])
        p = [sum(passes) / 4 for passes in shares.values()]
        mean = sum(p) / 3
        assert (row["n_samples"], row["n_problems"]) == (4, 3)
        assert row["mean_at_n"] == pytest.approx(mean)
        assert row["interval_high"] == pytest.approx(wilson_of_mean(p).high, abs=1e-6)
        again = math.sqrt(sum(x * (1 - x) / 3 for x in p)) / 3
        assert row["sampling_error"] == pytest.approx(again)
        assert f"mean@4 {mean:.1%}" in next(line for line in said if f"step {step}: pass@1" in line)
        assert mean in [x["pass_at_1"] for x in curve if x["decoding"] == decoding]
    assert [step for step, _ in result.evaluations] == [0, 2], "the greedy ones are the result"
