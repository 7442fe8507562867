"""What the judge of differences says of arms made by hand."""

import pytest

from analysis.statistics.conditions import Conditions
from analysis.statistics.paired import Effect, mcnemar_exact
from analysis.statistics.verdict import Arm, Evaluated, judge, p_text


def arm(label, *rows, algorithm=None, repeats=None, answers=None, method=None, **rest):
    """Runs of a policy: of each the passes of its problems."""
    return Arm(
        label,
        tuple(
            Evaluated(
                dict(enumerate(row)),
                None if repeats is None else repeats[number],
                None if answers is None else answers[number],
                Conditions(algorithm, method or {}, rest),
            )
            for number, row in enumerate(rows)
        ),
    )


def solved(k, n=40):
    return [1.0] * k + [0.0] * (n - k)


def test_comparisons_that_say_nothing_are_not_corrected_for():
    base, same = arm("base", solved(0), answers="a"), arm("copy", solved(0), answers="a")
    found = judge([(base, same), (base, arm("x", solved(7))), (base, arm("y", solved(12)))])
    assert [item.p_adjusted for item in found] == pytest.approx([1.0, found[1].p, 2 * found[2].p])
    assert found[0].winner is None and not found[0].distinguishable
    assert [item.winner for item in found[1:]] == ["x", "y"]


def test_holm_stands_between_no_correction_and_one_for_all():
    base = arm("base", solved(0))
    found = judge([(base, arm(name, solved(k))) for name, k in (("x", 6), ("y", 8), ("z", 7))])
    # in the order of their p-values: y times 3, z times 2, x as it is; none below the one before
    assert [item.p_adjusted / item.p for item in found] == pytest.approx([1.0, 3.0, 2.0])


def test_one_run_a_side_is_counted_and_several_are_measured():
    one, other = arm("a", solved(3)), arm("b", solved(9))
    (found,) = judge([(one, other)])
    assert found.p == mcnemar_exact(6, 0) and not found.over_seeds
    assert (found.gained_tasks, found.lost_tasks) == ((3, 4, 5, 6, 7, 8), ())
    assert (found.gained, found.lost, found.n, found.rates) == (6, 0, 40, (3 / 40, 9 / 40))
    several = arm("b", solved(9), solved(8), algorithm="sdpo")
    (found,) = judge([(one, several)])
    assert found.p == found.effect.p != mcnemar_exact(6, 0) and found.over_seeds
    assert found.rates[1] == pytest.approx(17 / 80)
    assert found.notes == ()
    (found,) = judge([(one, arm("c", solved(2), solved(4), algorithm="sdpo"))])
    assert (found.gained_tasks, found.lost_tasks) == ((3,), (2,))


def test_runs_of_one_seed_or_of_the_same_answers_are_one():
    rows = [solved(3), solved(4), solved(5), solved(6)]
    by_seed = arm("a", *rows, repeats=[1, 2, 1, 3])
    assert [len(group) for group in by_seed.repeats] == [1, 2, 1]
    assert sorted(by_seed.solved.mean(axis=1) * 40) == [4, 4, 6]
    by_answers = arm("a", *rows, repeats=[1, 2, 3, 4], answers=["x", "y", "y", None])
    assert len(by_answers.repeats) == 3
    chained = arm("a", *rows[:3], repeats=[1, 2, 2], answers=["x", "y", "x"])
    assert len(chained.repeats) == 1
    assert len(arm("a", *rows).repeats) == 4
    (found,) = judge([(by_answers, arm("b", solved(9)))])
    assert found.notes == (
        "4 runs of a count as 3: the others repeat a seed or an answer",
        "b is one run: its spread between seeds is taken from a",
    )


@pytest.mark.parametrize(
    ("answers", "same"),
    [
        ((["x", "y"], ["x", "y"]), True),
        ((["x", "y"], ["y", "y"]), True),
        ((["y", "y"], ["x", "y"]), True),
        ((["x", "y"], ["x", "z"]), False),
        ((None, None), False),
    ],
)
def test_sides_of_which_one_holds_the_others_answers_are_no_two_policies(answers, same):
    first = arm("a", solved(2), solved(3), algorithm="grpo", answers=answers[0])
    second = arm("b", solved(20), solved(25), algorithm="sdpo", answers=answers[1])
    (found,) = judge([(first, second)])
    assert (found.spoilt == "not distinguishable, both sides hold the same answers") == same
    assert found.sentence.startswith(f"a and b: {found.spoilt}") and found.spoilt or not same


def trained(label, k, algorithm, method=None, **rest):
    return arm(
        label, *(solved(k + i) for i in range(3)), algorithm=algorithm, method=method, **rest
    )


def test_a_method_has_no_winner_over_itself_but_over_another_setting_of_it():
    first, second = trained("a", 2, "sdpo"), trained("b", 25, "sdpo")
    (found,) = judge([(first, second)])
    assert found.sentence == "a and b: no winner, their method and settings are the same"
    (found,) = judge([(first, trained("b", 25, "sdpo", {"alpha": "1"}))])
    assert found.winner == "b" and not found.spoilt
    (found,) = judge([(first, trained("b", 25, "sdpo", lr="1"))])
    assert found.winner is None and found.differs == ("lr (not set, 1)",)
    untrained = arm("a", solved(2)), arm("b", solved(25))
    assert judge([untrained])[0].winner == "b"


def test_runs_that_are_no_seeds_of_one_policy_are_named():
    mixed = Arm("a", trained("a", 2, "sdpo").runs + trained("a", 2, "sdpo", {"alpha": "1"}).runs)
    for pair in ((mixed, trained("b", 25, "grpo")), (trained("b", 25, "grpo"), mixed)):
        (found,) = judge([pair])
        assert "the runs of a are no seeds of one policy: they differ in alpha" in found.sentence
        assert not found.distinguishable and found.winner is None


def test_the_better_one_wins_whichever_side_it_is_and_a_lone_trained_run_never_does():
    low, high = trained("low", 2, "grpo"), trained("high", 25, "sdpo")
    assert [judge([pair])[0].winner for pair in ((low, high), (high, low))] == ["high", "high"]
    lone = arm("lone", solved(38), algorithm="sdpo")
    for first, second, word in ((low, lone, "more"), (lone, low, "fewer")):
        (found,) = judge([(first, second)])
        assert (found.lone_seed, found.winner) == (True, None) and found.distinguishable
        assert f"{second.label} solves {word} than {first.label}" in found.sentence
    fixed = arm("base", solved(2))
    (found,) = judge([(fixed, high)])
    assert (found.lone_seed, found.winner, found.notes) == (False, "high", ())


def test_a_lone_trained_run_has_the_spread_of_the_other_side_and_an_untrained_one_none():
    many = trained("b", 15, "sdpo")
    (fixed,) = judge([(arm("a", solved(5)), many)])
    (drawn,) = judge([(arm("a", solved(5), algorithm="grpo"), many)])
    (unknown,) = judge([(arm("a", solved(5)), arm("b", *(solved(15 + i) for i in range(3))))])
    assert drawn.effect == unknown.effect and drawn.effect.error > fixed.effect.error
    assert len(drawn.notes) == 1 and fixed.notes == ()


def test_what_a_comparison_could_show_is_said_of_its_flips_or_its_spread():
    none = judge([(arm("a", solved(5)), arm("b", solved(5)))])[0].visible
    assert none.flip_fraction == 0.10
    some = judge([(arm("a", solved(0)), arm("b", solved(12)))])[0].visible
    assert some.flip_fraction == 12 / 40 and some.difference > 0
    few = judge([(arm("a", solved(0, 200)), arm("b", solved(1, 200)))])[0].visible
    assert few.flip_fraction == 0.10 and few.difference > 0
    found = judge([(trained("a", 2, "grpo"), trained("b", 25, "sdpo"))])[0]
    assert found.visible == (found.effect.least_visible, None)


def test_of_few_problems_the_flips_that_were_seen_are_assumed_where_more_than_usual():
    few = judge([(arm("a", solved(0, 12)), arm("b", solved(2, 12)))])[0].visible
    assert few == (None, 2 / 12), "not the tenth that is assumed where fewer flip"


def test_other_problems_are_refused():
    with pytest.raises(ValueError, match="same problems, got 40 and 39"):
        judge([(arm("a", solved(1)), arm("b", solved(1, 39)))])


def test_an_effect_has_students_interval_and_chance_of_being_seen():
    wide, narrow = Effect(0.1, 0.05, 4.0), Effect(0.1, 0.05, float("inf"))
    assert wide.interval == pytest.approx((0.1 - 2.776445 * 0.05, 0.1 + 2.776445 * 0.05))
    assert narrow.interval == pytest.approx((0.1 - 1.959964 * 0.05, 0.1 + 1.959964 * 0.05))
    assert (wide.p, narrow.p) == (
        pytest.approx(0.116117, abs=1e-6),
        pytest.approx(0.045500, abs=1e-6),
    )
    assert wide.least_visible == pytest.approx((2.776445 + 0.940965) * 0.05)
    assert narrow.least_visible == pytest.approx((1.959964 + 0.841621) * 0.05)
    assert Effect(0.0, 0.4, float("inf")).least_visible is None
    assert Effect(0.9, 0.4, 4.0).interval == (pytest.approx(0.9 - 2.776445 * 0.4), 1.0)
    assert Effect(-0.9, 0.4, 4.0).interval == (-1.0, pytest.approx(-0.9 + 2.776445 * 0.4))


@pytest.mark.parametrize(
    ("p", "text"), [(0.5, "0.50"), (0.1, "0.10"), (0.0123, "0.012"), (1e-9, "1e-09")]
)
def test_a_p_value_is_never_rounded_to_0(p, text):
    assert p_text(p) == text


def test_shares_of_several_answers_are_measured_and_not_counted():
    # One answer against the mean of eight, of one policy that solves 8 of 9: every problem flips a little.
    one, eight = arm("one", solved(32, 36)), arm("eight", [8 / 9] * 36)
    (found,) = judge([(one, eight)])
    assert (found.gained, found.lost, found.difference) == (4, 32, pytest.approx(0, abs=1e-9))
    assert found.p == found.effect.p > 0.5 and not found.counted
    assert "points" in found.seen and "over problems, p = " in found.seen
    assert found.visible == (found.effect.least_visible, None)
