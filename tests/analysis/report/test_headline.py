"""The report's first sentences claim a difference only where the verdict has one."""

import json
import random

import pytest

from analysis.report.headline import headline


@pytest.fixture
def store(connection):
    return connection


def add(
    store, algorithm, seed, rate, *, n=60, model="qwen", words=None, samples=1, of=None, **config
):
    """Store a run whose last evaluation solves about `rate` of n problems."""
    label = f"{algorithm or 'base'}-{seed}"
    ((n_runs,),) = store.execute("SELECT count(*) FROM runs").fetchall()
    run_id = f"{label}-{n_runs}"
    info = {
        "run_id": run_id, "kind": "train" if algorithm else "eval", "algorithm": algorithm,
        "label": label, "created_at": "2026-01-01T00:00:00", "config": json.dumps({"training": config}),
        "config_sha256": "c", "seed": seed, "model": model, "dataset": "d", "dataset_sha256": "d",
        "parent_run_id": of, "protocol": "p", "protocol_sha256": "p", "sandbox": "docker",
        "packages": "{}", "hardware": "{}",
    }  # fmt: skip
    insert(store, "runs", [info])
    passed = [random.Random(f"{words or label} {task}").random() < rate for task in range(n)]
    insert(store, "evals", [{
        "run_id": run_id, "eval_id": "final", "step": 20 if algorithm else None, "label": label,
        "dataset": "d", "protocol": "p", "decoding": "greedy", "n": n, "k": sum(passed),
        "interval_low": 0.1, "interval_high": 0.2, "wall_s": 1.0,
    }])  # fmt: skip
    insert(store, "eval_results", [
        {
            "run_id": run_id, "eval_id": "final", "task_id": task, "sample_index": sample,
            "execution_id": "x", "completion": f"{words or label} {task}", "outcome": "o", "passed": good,
        }
        for task, good in enumerate(passed) for sample in range(samples)
    ])  # fmt: skip


def insert(store, table, rows):
    names = list(rows[0])
    columns = ", ".join(f"unnest(${name})" for name in names)
    query = f"INSERT INTO {table} ({', '.join(names)}) SELECT {columns}"  # noqa: S608 - ours
    store.execute(query, {name: [row[name] for row in rows] for name in names})


def add_seeds(store, algorithm, rate, seeds=(42, 43, 44), **config):
    for seed in seeds:
        add(store, algorithm, seed, rate, **config)


def test_without_evaluations_nothing_is_said(store):
    assert headline(store)[0].startswith("No evaluation has finished")


def test_one_policy_alone_has_its_figures(store):
    add(store, "grpo", 42, 0.5)
    assert "there is no second policy on the same problems" in headline(store)[0]


def test_seeds_of_one_algorithm_are_judged_together(store):
    add_seeds(store, "grpo", 0.2)
    add_seeds(store, "sdpo", 0.7)
    text, (found,) = headline(store)
    assert (found.n_seeds, found.winner) == ((3, 3), "sdpo")
    assert text.startswith("sdpo is better than grpo (+")


def moved(store, dataset):
    """Let the newest run's evaluation be of other problems."""
    store.execute(
        "UPDATE evals SET dataset = ? WHERE run_id = (SELECT last(run_id) FROM runs)", [dataset]
    )


def test_the_best_of_several_seeds_does_not_speak_for_their_method(store):
    add_seeds(store, "grpo", 0.5)
    rates = sorted(
        rate
        for (rate,) in store.execute(
            "SELECT avg(passed::INT) FROM eval_results GROUP BY run_id"
        ).fetchall()
    )
    text, found = headline(store)
    assert not found
    assert text == (
        f"grpo solves {100 * sum(rates) / 3:.1f} % of 60 problems in the mean of 3 runs "
        f"({100 * rates[0]:.1f} % to {100 * rates[-1]:.1f} %); "
        "there is no second policy on the same problems to compare it with."
    )


def test_what_can_be_compared_is_not_hidden_by_evaluations_of_other_problems(store):
    """Two copies on easy problems are no reason to be silent about two methods on others."""
    add_seeds(store, "grpo", 0.4, seeds=(42,))
    add_seeds(store, "sdpo", 0.5, seeds=(42,))
    for words in ("a", "b", "c"):
        add(store, None, None, 0.95, words=words)
        moved(store, "easy")
    text, (found,) = headline(store)
    assert (found.first, found.second) == ("grpo", "sdpo")
    assert "Not in these sentences: 3 evaluations of other problems" in text


def test_one_policy_beside_other_problems_is_the_one_with_most_runs(store):
    add_seeds(store, "grpo", 0.4)
    add(store, None, None, 0.95)
    moved(store, "easy")
    text, _ = headline(store)
    assert text.startswith("grpo solves ")
    assert "Not in these sentences: 1 evaluation of other problems" in text


def test_an_evaluation_without_answers_has_finished_all_the_same(store):
    add(store, "grpo", 42, 0.5)
    store.execute("DELETE FROM eval_results")
    assert headline(store) == (
        "1 evaluation without answers, or of an audit: nothing can be compared.",
        [],
    )


def test_no_difference_is_called_one(store):
    add_seeds(store, "grpo", 0.5)
    add_seeds(store, "sdpo", 0.5)
    assert "grpo and sdpo: not distinguishable" in headline(store)[0]


def test_other_models_have_no_winner(store):
    add_seeds(store, "grpo", 0.7, model="qwen")
    add_seeds(store, "sdpo", 0.2, model="smollm2")
    text, (found,) = headline(store)
    assert found.winner is None and "no winner" in text and "model (qwen, smollm2)" in text


def test_a_sweep_is_not_one_policy(store):
    for seed, rate in ((1, 1e-6), (2, 1e-5), (3, 1e-4)):
        add(store, "grpo", seed, 0.2, learning_rate=rate)
        add(store, "sdpo", seed, 0.8, learning_rate=1e-5)
    text, found = headline(store)
    assert {item.n_seeds for item in found} == {(1, 1), (1, 3)}
    assert all(item.winner is None for item in found) and "learning_rate" in text


def test_one_seed_copied_is_one_seed(store):
    for seed in (1, 2, 3):
        add(store, "grpo", seed, 0.2, words="the same")
    add_seeds(store, "sdpo", 0.8)
    text, (found,) = headline(store)
    assert (found.n_seeds, found.winner) == ((1, 3), None)
    assert "3 runs of grpo count as 1" in text


def test_copies_of_samples_change_nothing(store):
    add_seeds(store, "grpo", 0.3)
    add_seeds(store, "sdpo", 0.5)
    (once,) = headline(store)[1]
    store.execute(
        "INSERT INTO eval_results BY NAME (SELECT e.* REPLACE (sample_index + i AS sample_index) "
        "FROM eval_results e CROSS JOIN (SELECT unnest(range(1, 8)) AS i))"
    )
    (often,) = headline(store)[1]
    assert (once.interval, once.p) == (often.interval, often.p)


def test_every_method_is_compared_with_the_start_and_with_grpo_and_corrected_together(store):
    add(store, None, 0, 0.3)
    for algorithm in ("grpo", "sdpo", "hybrid"):
        add_seeds(store, algorithm, 0.6)
    text, found = headline(store)
    assert len(found) == 5
    assert {item.first for item in found} == {"base-0", "grpo"}
    assert "p-values are corrected over these and 3 further" in text
    assert min(item.p_adjusted for item in found) == pytest.approx(5 * min(i.p for i in found))


def test_runs_on_other_problems_are_left_out(store):
    add_seeds(store, "grpo", 0.2)
    add_seeds(store, "sdpo", 0.8)
    add(store, "hybrid", 1, 0.9, n=20)
    assert [item.second for item in headline(store)[1]] == ["sdpo"]


def test_an_evaluation_that_was_graded_again_gives_way_to_the_later_one(store):
    add(store, None, 42, 0.5, words="base")
    add(store, None, 7, 0.2, model="other", words="other")
    _, before = headline(store)
    for n, model in enumerate(("qwen", "other")):
        add(store, None, 42 if n == 0 else 7, 0.5 if n == 0 else 0.2, model=model,
            words="base" if n == 0 else "other")  # fmt: skip
    runs = [run for (run,) in store.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall()]
    assert runs == ["base-42-0", "base-42-2", "base-7-1", "base-7-3"]
    for old, new in (("base-42-0", "base-42-2"), ("base-7-1", "base-7-3")):
        config = json.dumps(
            {"regraded": f"{old}/final", "sampled": {"code_version": "1", "packages": {}}}
        )
        store.execute(
            "UPDATE runs SET config = ?, sandbox = 'other' WHERE run_id = ?", [config, new]
        )
    text, found = headline(store)
    assert len(found) == len(before) == 1 and "Not in these sentences" not in text
    assert found[0].p == before[0].p


def test_a_seed_trained_twice_counts_once(store):
    for words in ("one", "two", "three"):
        add(store, "grpo", 42, 0.2, words=words)
    add_seeds(store, "sdpo", 0.8)
    (found,) = headline(store)[1]
    assert found.n_seeds == (1, 3)


def test_an_evaluation_apart_is_of_the_run_that_trained_its_policy(store):
    for algorithm, rate in (("grpo", 0.1), ("sdpo", 0.9)):
        for seed in (42, 43):
            add(store, algorithm, seed, rate, n=1)
    store.execute("DELETE FROM evals")
    runs = store.execute("SELECT run_id, algorithm, seed FROM runs ORDER BY run_id").fetchall()
    for run_id, algorithm, seed in runs:
        rate = {"grpo": 0.1, "sdpo": 0.9}[algorithm]
        add(store, None, 0, rate, n=30, words=f"{algorithm} {seed}", of=run_id)
    (found,) = headline(store)[1]
    assert (found.n_seeds, found.winner) == ((2, 2), "sdpo")
    store.execute(
        "UPDATE runs SET adapter = '/somewhere/' || parent_run_id || '/adapter' WHERE kind = 'eval'"
    )
    store.execute("UPDATE runs SET parent_run_id = NULL")
    (found,) = headline(store)[1]
    assert (found.n_seeds, found.winner) == ((2, 2), "sdpo")
    store.execute("UPDATE runs SET sandbox = 'process' WHERE adapter LIKE '%sdpo%'")
    (found,) = headline(store)[1]
    assert (found.winner, found.differs) == (None, ("evaluated with sandbox (docker, process)",))


def test_a_base_that_was_evaluated_otherwise_is_another_side(store):
    for dtype in ("bfloat16", "float32"):
        add(store, None, 1, 0.1, words="base", dtype=dtype)
    add_seeds(store, "grpo", 0.9, dtype="bfloat16")
    (found,) = headline(store)[1]
    assert found.winner == "grpo" and found.spoilt == ""


def test_a_problem_is_solved_by_the_share_of_its_samples(store):
    add(store, None, 1, 0.0, samples=4)
    add(store, "grpo", 1, 1.0, samples=4)
    store.execute("UPDATE eval_results SET passed = FALSE WHERE sample_index > 0")
    (found,) = headline(store)[1]
    assert found.rates == (0.0, 0.25)


def test_the_answers_of_an_audit_are_no_policys(store):
    add_seeds(store, "grpo", 0.2)
    add_seeds(store, "audit", 0.8)
    assert headline(store)[1] == []


def test_two_untrained_models_are_compared_and_one_asked_twice_is_one(store):
    for model, rate in (("qwen", 0.2), ("smollm2", 0.8)):
        for words in ("one", "two"):
            add(store, None, 7, rate, model=model, words=f"{model} {words}")
    (found,) = headline(store)[1]
    assert found.n_seeds == (1, 1) and found.rates[0] > found.rates[1]


def test_an_untrained_model_asked_with_another_seed_is_another_side(store):
    add(store, None, 1, 0.5)
    add(store, None, 2, 0.5)
    (found,) = headline(store)[1]
    assert found.n_seeds == (1, 1)


def test_three_comparisons_are_told_and_the_others_counted(store):
    for algorithm in ("grpo", "sdpo", "hybrid", "routed", "rlsd"):
        add(store, algorithm, 1, 0.5, n=5)
    text, found = headline(store)
    assert len(found) == 4 and text.count("grpo and ") == 3
    assert text.endswith("corrected over these and 1 further comparison(s): `sdpo-bench compare`.")


def test_policies_of_other_steps_have_no_winner(store):
    for algorithm, rate in (("grpo", 0.1), ("sdpo", 0.9)):
        for seed in (1, 2):
            add(store, algorithm, seed, rate, n=30)
    assert headline(store)[1][0].winner == "sdpo"
    store.execute("UPDATE runs SET packages = NULL")
    assert headline(store)[1][0].winner == "sdpo"
    store.execute("UPDATE evals SET step = 40 WHERE label LIKE 'sdpo%'")
    assert "no winner, they differ in more than the algorithm: step (20, 40)" in headline(store)[0]


def test_arms_of_one_algorithm_are_named_by_all_their_runs_and_what_can_be_compared_comes_first(
    store,
):
    add_seeds(store, "grpo", 0.5, learning_rate=1e-5)
    add_seeds(store, "grpo", 0.3, seeds=range(50, 56), learning_rate=1e-4)
    add_seeds(store, "sdpo", 0.4, learning_rate=1e-5)
    text, _ = headline(store)
    assert text.startswith("grpo-42,grpo-43,grpo-44 and sdpo")
    assert "grpo-50,grpo-51,grpo-52,grpo-53 and 2 more and grpo-42" in text


def test_arms_of_the_same_labels_are_told_apart(store):
    add_seeds(store, "grpo", 0.5, learning_rate=1e-5)
    add_seeds(store, "grpo", 0.3, learning_rate=1e-4)
    (found,) = headline(store)[1]
    assert found.first.startswith("grpo-42,grpo-43,grpo-44 (") and found.first != found.second


def test_of_several_answers_a_problem_the_share_that_passes_is_said(store):
    add(store, "grpo", 42, 0.5, samples=2)
    store.execute("UPDATE eval_results SET passed = false WHERE sample_index = 1")
    ((k,),) = store.execute("SELECT k FROM evals").fetchall()
    text, _ = headline(store)
    assert text.startswith(
        f"grpo-42 solves a problem of 60 in {100 * k / 120:.1f} % of its answers ({k} of 120 answers pass,"
    )
