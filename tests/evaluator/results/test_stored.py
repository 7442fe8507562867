"""Which stored evaluations a name means, and the commands that compare and show them."""

import json

import pytest
from click.testing import CliRunner

from analysis.journal.journal import Journal
from analysis.records import Rewind
from evaluator.results.stored import StoredError, find_evals, read_evals
from sdpo_bench import main
from tests.evaluator.results.evaluations import result, summary, write_run


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
        journal.append(result("step-50-sampled", 0, True))
        journal.append(summary("step-50-sampled", "t", 1, 1, step=50))
        journal.append(result("step-100", 0, True))
        journal.append(summary("step-100", "t", 1, 1, step=100))
    with Journal.resume(tmp_path / run_id) as journal:
        journal.append(Rewind(attempt=2, step=50))
        journal.append(result("step-50", 0, False, completion="again"))
        journal.append(summary("step-50", "t", 0, 1, step=50))
    evals = {item.row.eval_id: item for item in read_evals(tmp_path / run_id)}
    assert sorted(evals) == ["final", "step-50", "step-50-sampled"]
    assert evals["step-50"].results[0, 0].completion == "again"


def test_samples_beside_a_greedy_evaluation_are_asked_for_by_their_name(tmp_path):
    base = write_run(tmp_path, "base", {0}, 2)
    run_id = write_run(tmp_path, "t", {0}, 2, finished=False)
    with Journal.resume(tmp_path / run_id) as journal:
        for eval_id in ("step-50", "step-50-sampled"):
            for task in range(2):
                journal.append(result(eval_id, task, True, completion=eval_id))
            decoding = "n 8" if eval_id.endswith("sampled") else "greedy, 256 tokens"
            journal.append(summary(eval_id, "t", 2, 2, step=50, decoding=decoding))
    for name in ("t", run_id):
        assert [item.name for item in find_evals(tmp_path, name)] == [f"{run_id}/step-50"]
    assert call("compare", base, "t", "--runs-dir", tmp_path).exit_code == 0
    sampled = f"{run_id}/step-50-sampled"
    assert [item.name for item in find_evals(tmp_path, sampled)] == [sampled]


@pytest.mark.parametrize("name", ["t", "t/step-9"])
def test_a_run_without_the_evaluation_says_what_it_holds(tmp_path, name):
    run_id = write_run(tmp_path, "t", {0}, 2, finished=name == "t/step-9")
    held = f"name one of {run_id}/final$" if name == "t/step-9" else "none has finished in it$"
    with pytest.raises(StoredError, match=f"must hold the finished evaluation .*{held}"):
        find_evals(tmp_path, name.replace("t", run_id, 1))


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
    assert (found["distinguishable"], found["winner"]) == (False, None)


def test_p_values_are_whole_on_a_narrow_terminal(tmp_path, monkeypatch):
    names = [f"a-label-of-some-length-{i}" for i in range(3)]
    for number, name in enumerate(names):
        write_run(tmp_path, name, set(range(100 * number)), 250)
    monkeypatch.setattr("evaluator.cli.terminal._PLAIN_WIDTH", 80)
    done = call("compare", *names, "--runs-dir", tmp_path)
    table = done.stdout[: done.stdout.index(" is better")]
    assert "1.6e-30" in table and "…" not in done.stdout
    assert max(map(len, table.splitlines())) <= 80


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


@pytest.mark.slow
def test_show_prints_of_a_huge_text_begin_and_end_and_says_where_the_rest_is(tmp_path):
    run_id = write_run(tmp_path, "base", {0}, 2)
    text = "begin\n" + "x = 1\n" * 500_000 + "end"
    with Journal.resume(tmp_path / run_id) as journal:
        journal.append(result("final", 1, False, completion=text))
    done = call("show", "base", 1, "--runs-dir", tmp_path)
    assert done.exit_code == 0
    for word in ("begin", "end", f"[{len(text) - 200_000:,} characters are not shown]"):
        assert word in done.stdout
    assert len(done.stdout) < 8_000_000  # a line of text is a line of the frame
    assert f"FROM eval_results WHERE run_id = '{run_id}'" in done.stderr


def test_show_names_a_task_that_was_not_evaluated(tmp_path):
    write_run(tmp_path, "base", {0}, 2)
    done = call("show", "base", 99, "--runs-dir", tmp_path)
    assert "Error: the task must be one that" in done.stderr


def test_a_label_that_is_the_id_of_a_run_is_found_or_told(tmp_path):
    # an adapter's evaluation is called after the folder of the run that trained it
    write_run(tmp_path, "trained", {1}, 2, run_id="train-a", finished=False)
    write_run(tmp_path, "train-a", {0}, 2, run_id="eval-of-a")
    write_run(tmp_path, "train-a/final", {0}, 2, run_id="eval-of-final")
    said = []
    for name, run_id in (("train-a", "eval-of-a"), ("train-a/final", "eval-of-final")):
        (found,) = find_evals(tmp_path, name, say=said.append)
        assert found.info.run_id == run_id
    assert said == []
    write_run(tmp_path, "eval-of-a", {0}, 2, run_id="copy")
    (found,) = find_evals(tmp_path, "eval-of-a", say=said.append)
    assert found.info.run_id == "eval-of-a"
    assert said == [
        "'eval-of-a' is the id of a run, which was taken, and the label of copy: name that by its id"
    ]
