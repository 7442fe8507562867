"""Which differences between two sides are claimed, and which are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.journal.journal import Journal
from evaluator.results.compare import ComparisonError, Side, compare
from evaluator.results.stored import StoredEval
from tests.evaluator.results.evaluations import INFO, result, summary
from tests.scale import examples


def side(label, passes, **changes):
    """One side held in memory."""
    results = {(i, 0): result("final", i, bool(value)) for i, value in enumerate(passes)}
    row = summary("final", label, sum(map(bool, passes)), len(passes), **changes)
    return Side(label, (StoredEval(INFO, Path(), row, results),))


def test_three_against_five_of_257_is_not_distinguishable():
    first, second = side("grpo", [1] * 3 + [0] * 254), side("sdpo", [1] * 5 + [0] * 252)
    (found,) = compare([first, second])
    assert (found.gained, found.lost, found.p) == (2, 0, pytest.approx(0.5))
    assert found.interval.low < 0 < found.interval.high
    assert found.sentence == "grpo and sdpo: not distinguishable (2 gained, 0 lost, p = 0.50)"


def test_a_clear_difference_is_called_better_or_worse():
    low, high = side("a", [0] * 100), side("b", [1] * 30 + [0] * 70)
    assert compare([low, high])[0].sentence.startswith("b is better than a (30 gained, 0 lost, p")
    assert compare([high, low])[0].sentence.startswith("a is worse than b")


def seeds(label, *rows):
    """One side of several seeds, each with one completion a problem."""
    return Side(label, tuple(side(label, passes).evals[0] for passes in rows))


def test_several_seeds_are_compared_by_their_means_in_the_right_direction():
    first = seeds("a", [1] * 40 + [0] * 10, [1] * 38 + [0] * 12)
    second = seeds("b", [1] * 5 + [0] * 45, [1] * 8 + [0] * 42, [0] * 50)
    (found,) = compare([first, second])
    assert found.rates == pytest.approx((78 / 100, 13 / 150))
    assert found.difference == pytest.approx(13 / 150 - 78 / 100)
    assert found.interval.low < found.difference < found.interval.high < 0
    assert found.distinguishable and found.sentence.startswith("b is worse than a (-")
    (mirrored,) = compare([second, first])
    assert mirrored.interval.low > 0 and mirrored.distinguishable
    assert mirrored.sentence.startswith("a is better than b (+")


def test_an_evaluation_that_is_not_finished_is_not_compared():
    whole = side("a", [1, 0])
    unfinished = Side("b", (StoredEval(INFO, Path(), None, whole.evals[0].results),))
    for pair in ([whole, unfinished], [unfinished, whole]):
        with pytest.raises(ComparisonError, match="must be finished"):
            compare(pair)


def test_holm_corrects_over_the_comparisons_made_together():
    base = side("base", [0] * 50)
    others = [side(name, [1] * k + [0] * (50 - k)) for name, k in (("x", 6), ("y", 1))]
    alone = compare([base, others[0]])[0]
    together = compare([base, *others])[0]
    assert alone.distinguishable
    assert together.p == alone.p
    assert together.p_adjusted == pytest.approx(2 * alone.p)
    assert not together.distinguishable
    assert "after Holm's correction" in together.sentence


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_swapping_the_sides_mirrors_everything(pairs):
    first, second = side("a", [a for a, _ in pairs]), side("b", [b for _, b in pairs])
    (one,), (other,) = compare([first, second]), compare([second, first])
    assert (one.gained, one.lost, one.p) == (other.lost, other.gained, other.p)
    assert one.difference == pytest.approx(-other.difference)
    assert one.interval.low == pytest.approx(-other.interval.high)


def seeded(name, rows, *, algorithm="grpo", samples=1, seeds=None, same=None, **config):
    """A side of trained policies: a row of passes for each seed, each answer given `samples` times."""
    evals = []
    for number, passes in enumerate(rows):
        results = {
            (task, sample): result("final", task, bool(value), f"{same or name} {number} {task}")
            for task, value in enumerate(passes)
            for sample in range(samples)
        }
        info = INFO.model_copy(
            update={
                "kind": "train",
                "algorithm": algorithm,
                "seed": (seeds or range(40, 90))[number],
                "run_id": f"{name}-{number}",
                "model": config.get("model", "qwen"),
                "config": {"training": {"learning_rate": 1e-5} | config},
            }
        )
        row = summary("final", name, sum(map(bool, passes)), len(passes))
        evals.append(StoredEval(info, Path(), row, results))
    return Side(name, tuple(evals))


def rows(rng, rates):
    return [(rng.random(120) < rate).tolist() for rate in rates]


def pair(seed=0, low=0.2, high=0.6, **changes):
    """GRPO at `low` against SDPO at `high`, three seeds each: a clear difference."""
    rng = np.random.default_rng(seed)
    first = seeded("grpo", rows(rng, [low] * 3))
    return first, seeded("sdpo", rows(rng, [high] * 3), algorithm="sdpo", **changes)


def test_several_seeds_are_judged_over_problems_and_seeds():
    (found,) = compare(pair())
    assert (found.n_seeds, found.winner) == ((3, 3), "sdpo")
    assert found.sentence.startswith("sdpo is better than grpo (+")
    assert "over problems and seeds, p = " in found.sentence


@settings(max_examples=examples(8), deadline=None)
@given(st.integers(0, 200), st.integers(2, 9))
def test_copies_of_samples_change_no_interval(seed, samples):
    rng = np.random.default_rng(seed)
    some, more = rows(rng, [0.3, 0.4]), rows(rng, [0.4, 0.5, 0.5])
    once = compare([seeded("a", some), seeded("b", more, algorithm="sdpo")])[0]
    often = compare(
        [seeded("a", some, samples=samples), seeded("b", more, algorithm="sdpo", samples=samples)]
    )[0]
    assert (once.interval, once.p, once.n_seeds) == (often.interval, often.p, often.n_seeds)


def test_a_run_copied_under_other_seeds_is_one_run():
    rng = np.random.default_rng(1)
    (answers,) = rows(rng, [0.2])
    run = seeded("grpo", [answers])
    copies = tuple(
        replace(run.evals[0], info=run.evals[0].info.model_copy(update={"seed": seed}))
        for seed in (1, 2, 3)
    )
    other = seeded("sdpo", rows(rng, [0.6] * 3), algorithm="sdpo")
    (found,) = compare([Side("grpo", copies), other])
    assert (found.n_seeds, found.winner) == ((1, 3), None)
    assert "3 runs of grpo count as 1" in found.sentence


def test_a_seed_given_twice_counts_once():
    rng = np.random.default_rng(1)
    first = seeded("grpo", rows(rng, [0.2] * 3), seeds=[42, 42, 42])
    (found,) = compare([first, seeded("sdpo", rows(rng, [0.6] * 3), algorithm="sdpo")])
    assert (found.n_seeds, found.winner) == ((1, 3), None)


def test_the_same_answers_under_two_labels_have_no_winner():
    rng = np.random.default_rng(1)
    answers = rows(rng, [0.2] * 2)
    (found,) = compare(
        [
            seeded("grpo", answers, same="x"),
            seeded("sdpo", answers, algorithm="sdpo", same="x"),
        ]
    )
    assert found.winner is None
    assert found.sentence == "grpo and sdpo: not distinguishable, both sides hold the same answers"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": "smollm2"}, "model (qwen, smollm2)"),
        ({"learning_rate": 1e-6}, "learning_rate (1e-05, 1e-06)"),
        ({"max_steps": 400}, "max_steps (not set, 400)"),
    ],
)
def test_sides_that_differ_in_more_than_the_algorithm_have_no_winner(changes, named):
    (found,) = compare(pair(**changes))
    assert found.winner is None and found.distinguishable
    assert f"no winner, they differ in more than the algorithm: {named}" in found.sentence


def test_what_an_algorithm_brings_is_no_other_difference():
    (found,) = compare(pair(alpha=0.7, scale_rewards="none", label="x", output_dir="y"))
    assert found.winner == "sdpo" and found.differs == ()


def test_a_sweep_is_not_averaged_into_a_run_that_never_was():
    first, second = pair()
    swept = Side(
        "grpo",
        (
            first.evals[0],
            *seeded(
                "grpo", rows(np.random.default_rng(5), [0.1] * 2), learning_rate=1e-4, seeds=[7, 8]
            ).evals,
        ),
    )
    (found,) = compare([swept, second])
    assert found.winner is None
    assert "they differ in learning_rate (1e-05, 0.0001)" in found.sentence
    assert "points" not in found.sentence


def test_one_seed_of_a_trained_policy_has_no_winner():
    rng = np.random.default_rng(2)
    first = seeded("grpo", rows(rng, [0.2]))
    (found,) = compare([first, seeded("sdpo", rows(rng, [0.6]), algorithm="sdpo")])
    assert found.winner is None and found.distinguishable
    assert "one seed does not tell what others would do: no winner" in found.sentence


def test_an_untrained_policy_needs_no_second_seed():
    rng = np.random.default_rng(2)
    (found,) = compare([side("base", rows(rng, [0.2])[0]), seeded("grpo", rows(rng, [0.6] * 3))])
    assert found.winner == "grpo" and "one run" not in found.sentence
    both = compare([side("base", rows(rng, [0.2])[0]), side("other", rows(rng, [0.6])[0])])
    assert both[0].winner == "other"


def test_one_seed_against_several_gets_their_spread():
    rng = np.random.default_rng(2)
    first, second = seeded("grpo", rows(rng, [0.2])), seeded("sdpo", rows(rng, [0.3] * 3))
    (found,) = compare([first, second])
    assert found.winner is None
    assert "grpo is one run: its spread between seeds is taken from sdpo" in found.sentence


def test_holm_corrects_over_every_pair():
    first, second = pair(low=0.4, high=0.5)
    third = seeded("hybrid", rows(np.random.default_rng(3), [0.5] * 3), algorithm="hybrid")
    found = compare([first, second, third], every_pair=True)
    assert len(found) == 3
    assert min(item.p_adjusted for item in found) == pytest.approx(3 * min(i.p for i in found))


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("dataset", {"dataset": "mbpp/full/test"}),
        ("protocol", {"protocol": "mbpp-first"}),
        ("decoding", {"decoding": "greedy, 512 tokens"}),
    ],
)
def test_unlike_evaluations_are_refused_by_name(what, changes):
    with pytest.raises(ComparisonError, match=f"must have the same {what}, got"):
        compare([side("a", [1, 0]), side("b", [1, 0], **changes)])


def test_other_problems_are_refused():
    with pytest.raises(ComparisonError, match=r"must cover the same problems, got 1 \(task 2"):
        compare([side("a", [1, 0]), side("b", [1, 0, 1])])


def test_other_content_under_one_name_is_refused():
    first, second = side("a", [1, 0]), side("b", [1, 0])
    changed = second.evals[0].info.model_copy(update={"dataset_sha256": "other"})
    second = Side("b", (replace(second.evals[0], info=changed),))
    with pytest.raises(ComparisonError, match="same dataset content"):
        compare([first, second])


@pytest.mark.parametrize(
    "named_by", ["adapter", "a checkpoint", "an adapter that was moved", "parent_run_id"]
)
def test_an_adapter_is_of_the_run_that_trained_it(tmp_path, named_by):
    first, second = pair()
    for item in second.evals:
        folder = tmp_path / item.info.run_id
        Journal.create(tmp_path, item.info).close()
        assert (folder / "run.json").is_file()
    evaluated = tuple(
        replace(
            item,
            run_dir=tmp_path / "evaluation",
            info=INFO.model_copy(
                update={
                    "adapter": {"adapter": str(tmp_path / item.info.run_id / "adapter"), "seed": 0},
                    "a checkpoint": {
                        "adapter": f"{tmp_path}/{item.info.run_id}/checkpoints/checkpoint-8",
                        "seed": 0,
                    },
                    "an adapter that was moved": {
                        "adapter": f"runs/{item.info.run_id}/adapter",
                        "seed": 0,
                    },
                    "parent_run_id": {"parent_run_id": item.info.run_id, "seed": 0},
                }[named_by]
            ),
        )
        for item in second.evals
    )
    (found,) = compare([first, Side("sdpo", evaluated)])
    assert (found.winner, found.n_seeds) == ("sdpo", (3, 3))


def test_steps_of_runs_that_asked_other_problems_under_one_name_are_not_compared():
    sides = []
    for name, content in (("a", "d" * 64), ("b", "e" * 64)):
        (item,) = seeded(name, [[1, 0, 1]]).evals
        row = item.row.model_copy(update={"dataset_sha256": content})
        sides.append(Side(name, (replace(item, row=row),)))
    with pytest.raises(ComparisonError, match="same dataset content"):
        compare(sides)
    told = replace(sides[0].evals[0], info=INFO)  # of an evaluation by itself
    with pytest.raises(ComparisonError, match="same dataset content"):
        compare([Side("alone", (told,)), sides[1]])
    older = replace(
        sides[1].evals[0], row=sides[1].evals[0].row.model_copy(update={"dataset_sha256": None})
    )
    assert len(compare([sides[0], Side("older", (older,))])) == 1
