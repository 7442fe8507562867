import json
import re

import analysis.report.completions
from analysis import queries
from analysis.journal.journal import Journal
from analysis.records import Metric
from analysis.render import Result
from analysis.report.completions import completions, describe
from analysis.report.markup import count, lines
from analysis.report.tables import evaluations, runs, settings, short_model
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import synthetic_info, write_training_run


def run(name, config, **more):
    described = dict.fromkeys(
        ("algorithm", "seed", "model", "dataset", "protocol", "sandbox", "git_commit")
    )
    return {"name": name, **described, "config": json.dumps(config), **more}


def cells(markup):
    """Rows of the first table, as texts."""
    table = re.search(r"<table>(.*?)</table>", markup, re.DOTALL)[1]
    return [re.findall(r"<t[hd](?: [^>]*)?>([^<]*)<", row) for row in table.split("</tr>")[:-1]]


def test_settings_that_agree_are_folded_away():
    shared = {f"key_{i}": i for i in range(200)}
    found = settings(
        [
            run("a", {"training": {"lr": 1e-5, **shared}}),
            run("b", {"training": {"lr": 2e-5, **shared}}),
        ]
    )
    shown, _, folded = found.partition("<details>")
    assert cells(shown) == [["run", "training.lr"], ["a", "1e-05"], ["b", "2e-05"]]
    assert "207 settings with one value in all runs" in folded
    assert folded.count("<tr>") == 208


def test_a_run_that_lacks_a_setting_does_not_make_it_differ():
    """The baseline's evaluation has no training: its 248 settings would all stand as differences."""
    trained = {"lr": 1e-5, "steps": 20}
    found = settings([run("base", {}), run("a", trained), run("b", {**trained, "lr": 2e-5})])
    shown, *folded = found.split("<details>")
    assert cells(shown) == [["run", "lr"], ["base", "–"], ["a", "1e-05"], ["b", "2e-05"]]
    assert "1 setting that only some runs have" in folded[0]
    assert cells(folded[0]) == [["setting", "value", "runs that have it"], ["steps", "20", "a, b"]]


def test_the_table_has_a_row_a_run_only_where_there_are_more_runs_than_settings():
    few = settings([run("a", {"x": 1, "y": 1}), run("b", {"x": 2, "y": 2})])
    assert cells(few) == [["setting", "a", "b"], ["x", "1", "2"], ["y", "1", "2"]]
    found = settings([run(f"run-{i}", {"lr": i}, seed=i) for i in range(50)])
    assert cells(found)[:2] == [["run", "lr", "seed"], ["run-0", "0", "0"]]
    assert len(cells(found)) == 51


def test_one_run_and_equal_runs_and_no_run_are_told_apart():
    assert settings([]) == "<p>There are no runs.</p>"
    assert "of the run" in settings([run("a", {"lr": 1})])
    assert "All settings that two runs have are the same." in settings(
        [run("a", {"lr": 1}), run("b", {"lr": 1})]
    )


def test_none_and_absent_are_told_apart():
    found = settings([run("a", {"peft": None}), run("b", {"peft": {"r": 8}, "x": 1}), run("c", {})])
    assert "peft.r" in found
    assert "none" in found


def test_the_numbers_of_an_evaluation_stand_beside_its_name_and_the_model_is_named():
    columns = ("name", "pass_at_1", "interval_low", "interval_high", "counts", "algorithm", "seed")
    values = ("sdpo-42 @ 20", 0.875, 0.826, 0.911, "210 / 240", "sdpo", 42)
    board = Result(
        (*columns, "model", "dataset", "decoding"),
        [(*values, "results/demo/policies/4af9", "held_out", "greedy")],
    )
    head, row = cells(evaluations(board))
    assert head[:4] == ["policy", "pass@1", "95 % interval", "solved"]
    assert row[:4] == ["sdpo-42 @ 20", "87.5 %", "82.6 to 91.1 %", "210 / 240"]
    assert row[head.index("model")] == "…/policies/4af9"
    unknown = Result(board.columns, [("a", None, None, None, "0 / 0", *board.rows[0][5:])])
    assert cells(evaluations(unknown))[1][:4] == ["a", "", "", "0 / 0"]
    assert evaluations(Result(board.columns, [])) == "<p>No evaluation has finished.</p>"


def test_a_run_that_failed_stands_on_the_page_with_its_error():
    states = dict.fromkeys(("model", "seed", "planned_steps", "error"))
    failed = {**states, "error": "out of memory", "planned_steps": 200}
    shared = {"kind": "train", "algorithm": "sdpo", "n_rollouts": 1600, "last_step": 100}
    overview = [
        {"name": "a", "state": "failed", **shared, **failed},
        {"name": "b", "state": "finished", **shared, **states},
    ]
    head, first, second = cells(runs(overview))
    assert first[:4] == ["a", "failed", "100 of 200", "1,600"]
    assert first[head.index("error")] == "out of memory"
    assert second[2] == "100"
    assert "error" not in cells(runs(overview[1:]))[0]


def test_a_model_is_named_short_unless_it_is_short():
    assert short_model("Qwen/Qwen2.5-0.5B-Instruct") == "Qwen/Qwen2.5-0.5B-Instruct"
    assert short_model("/data/models/smol") == "…/models/smol"
    assert short_model(None) == ""


def test_lines_keep_their_breaks_and_say_what_was_cut():
    assert lines("a\n<b>\x1b\u202e", 100) == "a\n&lt;b&gt;\\x1b\\u202e"
    assert lines("x" * 50, 10).endswith("… cut at 10 characters")
    assert count(1, "row") == "1 row" and count(1200, "row") == "1,200 rows"


def test_short_runs_beside_many_others_keep_completions_on_the_page(tmp_path, monkeypatch):
    """Every nth step by its number left out all of a run that had fewer than n."""
    for number in range(8):
        write_training_run(tmp_path / "runs", f"run-{number}", n_steps=3, eval_every=0, seed=number)
    ingest(tmp_path / "runs", tmp_path / "r.duckdb")
    monkeypatch.setattr(analysis.report.completions, "MOST_ROLLOUTS", 64)
    with connect(tmp_path / "r.duckdb") as connection:
        found = completions(connection, None)
    steps = [(row["run_id"], row["step"]) for row in found.rows.records()]
    assert (found.n_rollouts, found.n_rollouts_kept) == (384, 64)
    assert len(set(steps)) == 4 and all(steps.count(step) == 16 for step in steps)
    monkeypatch.setattr(analysis.report.completions, "MOST_ROLLOUTS", 10)
    with connect(tmp_path / "r.duckdb") as connection:
        assert completions(connection, ["run-3"]).n_rollouts_kept == 10, "less than one step"
    assert "64 of 384 of training" in describe(found)
    assert "The rest:" in describe(found)


def test_curves_of_inside_sdpo_that_are_equal_are_drawn_once(tmp_path):
    for name, factor in (("a", 1.0), ("b", 1.5)):
        with Journal.create(tmp_path / name, synthetic_info("run")) as journal:
            for step in range(1, 4):
                journal.append(Metric(step=step, name="distill/per_token", value=0.1 / step))
                journal.append(
                    Metric(step=step, name="distill/loss", value=0.1 / step * factor + 1e-9)
                )
        ingest(tmp_path / name, tmp_path / f"{name}.duckdb")
        with connect(tmp_path / f"{name}.duckdb") as connection:
            rows = queries.sdpo_internals(connection).records()
        equal, other = ("distillation loss", "divergence per token")
        drawn = {row["quantity"] for row in rows}
        assert drawn == ({f"{equal} = {other}"} if factor == 1 else {equal, other})
        assert len(rows) == (3 if factor == 1 else 6)
