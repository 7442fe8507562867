"""The report's first sentence claims a difference only where a test has it."""

from analysis.render import Result
from analysis.verdict import verdict

SETTING = ("d", "p", "greedy")
BOARD = ("name", "algorithm", "seed", "k", "n", "dataset", "protocol", "decoding")


def flips(gained, lost, p_value):
    columns = ("name_a", "name_b", "algorithm_a", "algorithm", "change", "n", "p_value")
    counts = {"gained": gained, "lost": lost, "solved by both": 100, "solved by neither": 50}
    return Result(
        (*columns, "dataset", "protocol", "decoding"),
        [
            ("grpo-1", "sdpo-1", "grpo", "sdpo", name, n, p_value, *SETTING)
            for name, n in counts.items()
            if n
        ],
    )


def board(grpo, sdpo, setting=SETTING):
    rows = [("grpo", seed, k) for seed, k in enumerate(grpo)]
    rows += [("sdpo", seed, k) for seed, k in enumerate(sdpo)]
    return Result(BOARD, [(f"{a}-{s}", a, s, k, 240, *setting) for a, s, k in rows])


def test_one_seed_is_judged_by_the_problems_that_flip():
    one = board([100], [100])
    assert verdict(one, flips(12, 9, 0.66)).startswith(
        "No difference between grpo-1 and sdpo-1 is shown. sdpo-1 solves 112"
    )
    assert verdict(one, flips(30, 9, 0.001)).startswith("sdpo-1 does better than grpo-1.")
    assert verdict(one, flips(9, 30, 0.001)).startswith("grpo-1 does better than sdpo-1.")


def test_without_evaluations_nothing_is_said():
    assert verdict(Result((), []), Result((), [])).startswith("No evaluation has finished")


def test_one_seed_of_luck_is_no_finding():
    text = verdict(board([190, 212, 202], [201, 211, 201]), flips(18, 7, 0.043))
    assert text.startswith(
        "No difference between grpo and sdpo is shown over 3 seeds. sdpo solves 201, 211, 201 of 240"
    )
    # differences 11, -1, -1 of 240: mean 1.25, s 2.887, t(0.975, 2) = 4.303, half width 7.17 points
    assert "+1.3 points on average, 95 % interval -5.9 to +8.4" in text


def test_what_every_seed_shows_is_said():
    text = verdict(board([100, 104, 99], [180, 190, 185]), flips(1, 1, 1.0))
    assert text.startswith("sdpo does better than grpo over 3 seeds.")


def test_two_seeds_are_too_few():
    assert verdict(board([1, 2], [200, 210]), flips(90, 1, 1e-9)).startswith("Two seeds are too")


def test_seeds_of_another_setting_are_left_out():
    others = board([190, 212, 202], [201, 211, 201], ("other", "p", "greedy"))
    mixed = Result(BOARD, [*board([100], [112]).rows, *others.rows])
    assert verdict(mixed, flips(12, 0, 0.0005)).startswith("sdpo-1 does better than grpo-1.")


def test_seeds_that_agree_by_chance_on_one_problem_are_no_finding():
    # no spread between the seeds, but one problem of 240 is within the noise of drawing the problems
    text = verdict(board([100, 100, 100], [101, 101, 101]), flips(1, 0, 1.0))
    # d = 1/240: 1.96 * sqrt(d (1 - d) / 240) = 0.81 points around 0.42
    assert text.startswith("No difference") and "-0.4 to +1.2" in text
