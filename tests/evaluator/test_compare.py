import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from analysis.journal import Journal
from analysis.provenance import run_info
from analysis.records import Eval, EvalResult, Rewind
from evaluator.compare import ComparisonError, Side, compare
from evaluator.stats import wilson
from evaluator.stored import StoredError, StoredEval, find_evals, read_evals
from sdpo_bench import main

INFO = run_info(
    kind="eval",
    label="x",
    config={},
    dataset="d",
    dataset_sha256="d",
    protocol="mbpp",
    protocol_sha256="p",
    sandbox="fake",
)


def write_run(runs_dir, label, solved, n, *, finished=True, **changes):
    """Store an evaluation of n problems of which those in `solved` pass."""
    info = run_info(
        kind="eval",
        label=label,
        config={},
        dataset="mbpp/sanitized/test",
        dataset_sha256=changes.pop("dataset_sha256", "d"),
        protocol="mbpp",
        protocol_sha256="p",
        sandbox="fake",
        run_id=changes.pop("run_id", None),
    )
    with Journal.create(Path(runs_dir), info) as journal:
        for task_id in range(n):
            journal.append(result("final", task_id, task_id in solved))
        if finished:
            journal.append(summary("final", label, len(solved), n, **changes))
    return info.run_id


def result(eval_id, task_id, passed, completion="x"):
    return EvalResult(
        eval_id=eval_id,
        task_id=task_id,
        sample_index=0,
        execution_id=f"{eval_id}/{task_id}",
        prompt="ask",
        completion=completion,
        code=None,
        outcome="passed" if passed else "no_code",
        passed=passed,
        n_passed=3 * passed,
        n_asserts=3,
        n_completion_tokens=1,
        truncated=False,
        feedback=None if passed else "said why",
    )


def summary(eval_id, label, k, n, **changes):
    low, high = wilson(k, n)
    row = Eval(
        eval_id=eval_id,
        step=None,
        label=label,
        dataset="mbpp/sanitized/test",
        protocol="mbpp",
        decoding="greedy, 256 tokens",
        n=n,
        k=k,
        interval_low=low,
        interval_high=high,
        wall_s=1.0,
    )
    return row.model_copy(update=changes)


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
    assert (found.n_rows, found.p, found.p_adjusted) == ((2, 3), None, None)
    assert found.distinguishable and found.sentence.startswith("b is worse than a (difference -")
    (mirrored,) = compare([second, first])
    assert mirrored.interval.low > 0 and mirrored.distinguishable
    assert mirrored.sentence.startswith("a is better than b (difference +")


def test_of_problems_with_unequal_numbers_of_samples_as_many_count_as_all_have():
    results = {(0, 0): True, (0, 1): False, (0, 2): True, (1, 0): False, (1, 1): True}
    stored = {key: result("final", key[0], passed) for key, passed in results.items()}
    one = Side("a", (StoredEval(INFO, Path(), summary("final", "a", 1, 2), stored),))
    assert one.solved.tolist() == [[1.0, 0.0], [0.0, 1.0]]


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


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_swapping_the_sides_mirrors_everything(pairs):
    first, second = side("a", [a for a, _ in pairs]), side("b", [b for _, b in pairs])
    (one,), (other,) = compare([first, second]), compare([second, first])
    assert (one.gained, one.lost, one.p) == (other.lost, other.gained, other.p)
    assert one.difference == pytest.approx(-other.difference)
    assert one.interval.low == pytest.approx(-other.interval.high)


def test_several_seeds_are_bootstrapped_over_problems_and_seeds():
    seeds = [side("a", [i % 2 for i in range(40)]).evals[0] for _ in range(3)]
    first, second = Side("a", tuple(seeds)), side("b", [1] * 40)
    (found,) = compare([first, second])
    assert found.p is None
    assert found.n_rows == (3, 1)
    assert found.distinguishable
    assert "over problems and seeds" in found.sentence


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


def test_a_label_is_its_newest_run_and_an_id_is_itself(tmp_path):
    old = write_run(tmp_path, "base", {0}, 4)
    new = write_run(tmp_path, "base", {0, 1}, 4)
    assert find_evals(tmp_path, "base")[0].info.run_id == new
    assert find_evals(tmp_path, old)[0].row.k == 1
    assert find_evals(tmp_path, f"{old}/final")[0].row.k == 1
    assert len(find_evals(tmp_path, "base", every_run=True)) == 2
    assert len(find_evals(tmp_path, f"{old},{new}")) == 2


def test_an_unfinished_run_has_no_label_to_compare(tmp_path):
    write_run(tmp_path, "base", {0}, 4, finished=False)
    with pytest.raises(StoredError, match="label of a finished evaluation"):
        find_evals(tmp_path, "base")


def test_evaluations_of_steps_that_were_taken_back_do_not_count(tmp_path):
    run_id = write_run(tmp_path, "t", {0}, 2)
    with Journal.resume(tmp_path / run_id) as journal:
        journal.append(result("step-50", 0, True))
        journal.append(summary("step-50", "t", 1, 1, step=50))
        journal.append(result("step-100", 0, True))
        journal.append(summary("step-100", "t", 1, 1, step=100))
    with Journal.resume(tmp_path / run_id) as journal:
        journal.append(Rewind(attempt=2, step=50))
        journal.append(result("step-50", 0, False, completion="again"))
        journal.append(summary("step-50", "t", 0, 1, step=50))
    evals = {item.row.eval_id: item for item in read_evals(tmp_path / run_id)}
    assert list(evals) == ["final", "step-50"]
    assert evals["step-50"].results[0, 0].completion == "again"


def call(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)


def test_the_command_prints_a_table_and_a_sentence(tmp_path):
    write_run(tmp_path, "grpo", {0, 1, 2}, 257)
    write_run(tmp_path, "sdpo", {0, 1, 2, 3, 4}, 257)
    out = tmp_path / "out.json"
    done = call("compare", "grpo", "sdpo", "--runs-dir", tmp_path, "--json", out)
    assert done.exit_code == 0
    assert "not distinguishable (2 gained, 0 lost, p = 0.50)." in done.stdout
    assert "257 problems can show a difference of 5.7 points" in done.stdout
    (found,) = json.loads(out.read_text())["comparisons"]
    assert (found["gained"], found["lost"], found["p"]) == ([3, 4], [], 0.5)
    assert found["distinguishable"] is False


def test_one_name_is_a_usage_error(tmp_path):
    assert call("compare", "a", "--runs-dir", tmp_path).exit_code == 2


@pytest.mark.parametrize("arguments", [("compare", "a", "b"), ("show", "a", 3)])
def test_an_unknown_name_is_one_line(tmp_path, arguments):
    done = call(*arguments, "--runs-dir", tmp_path)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: a name must be")
    assert len(done.stderr.strip().splitlines()) == 1


def test_show_prints_completion_and_feedback(tmp_path):
    write_run(tmp_path, "base", {0}, 2)
    done = call("show", "base", 1, "--runs-dir", tmp_path)
    assert done.exit_code == 0
    for word in ("base", "task 1", "no_code", "ask", "said why", "0 of 3 asserts"):
        assert word in done.stdout


def test_show_puts_two_runs_side_by_side(tmp_path):
    write_run(tmp_path, "base", {0}, 2)
    write_run(tmp_path, "tuned", {0, 1}, 2)
    done = call("show", "base", 1, "--beside", "tuned", "--runs-dir", tmp_path)
    (titles,) = [line for line in done.stdout.splitlines() if "task 1" in line]
    assert "base" in titles
    assert "tuned" in titles


def test_show_obeys_no_escape_and_no_markup(tmp_path):
    run_id = write_run(tmp_path, "base", {0}, 2)
    with Journal.resume(tmp_path / run_id) as journal:
        journal.append(result("final", 1, False, completion="\x1b[31m[bold]x[/bold]\x07\x00"))
    text = call("show", "base", 1, "--runs-dir", tmp_path).stdout
    assert "\\x1b[31m[bold]x[/bold]\\x07\\x00" in text


def test_show_names_a_task_that_was_not_evaluated(tmp_path):
    write_run(tmp_path, "base", {0}, 2)
    done = call("show", "base", 99, "--runs-dir", tmp_path)
    assert "Error: the task must be one that" in done.stderr
