"""A label tells runs apart and leads to its run, or is refused when it is given."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.journal.journal import Journal, StoreError
from analysis.provenance import check_label
from evaluator.evaluation.label import findable, folder_label, name_label
from evaluator.results.stored import StoredError, find_evals
from sdpo_bench import main
from tests.evaluator.results.evaluations import write_run


def invoke(command, folder, *arguments):
    return CliRunner().invoke(
        main, [command, *map(str, arguments), "--runs-dir", str(folder / "runs")]
    )


def reads(command, folder, *arguments):
    return invoke(command, folder, *arguments, "--results", folder / "results.duckdb")


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("runs/sdpo-42/adapter", "sdpo-42"),
        ("runs/sdpo-42/checkpoints/checkpoint-50", "sdpo-42-checkpoint-50"),
        ("runs/sdpo-42/checkpoints/checkpoint-50/adapter", "sdpo-42-checkpoint-50"),
        ("out/step_7/lora", "out-step_7"),
        ("my-adapter", "my-adapter"),
        ("a,b/adapter", "a_b"),
        ("-x/final", "x"),
    ],
)
def test_an_evaluation_of_an_adapter_is_named_after_its_run_and_checkpoint(
    tmp_path, monkeypatch, folder, label
):
    if folder.startswith("out/"):
        label = label.replace("out", tmp_path.name)
    assert folder_label(tmp_path / folder) == label
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / folder)
    assert folder_label(Path(".")) == label


def test_two_adapters_of_two_runs_have_two_labels():
    labels = {folder_label(Path(f"/w/runs/train-sdpo-{seed}/adapter")) for seed in range(5)}
    assert len(labels) == 5


def test_a_model_is_named_by_its_folder_or_the_end_of_its_hub_name(tmp_path):
    (tmp_path / "tiny" / "model").mkdir(parents=True)
    assert name_label("org/some-model") == "some-model"
    assert name_label(str(tmp_path / "tiny" / "model")) == "tiny"


@pytest.mark.parametrize(
    "text", ["a,b", "\udcff", "-x", "", "a\nb", "x" * 5000, "  ", "\x1b[2J", ",", "-"]
)
def test_a_label_of_ours_can_always_be_looked_up(text):
    check_label(findable(text))


BAD_LABELS = [
    "a,b",
    ",",
    "",
    " ",
    " a",
    "a ",
    "-x",
    "--json",
    "a\nb",
    "a\tb",
    "\x1b[2J",
    "\x00",
    "x" * 101,
]
BAD_LABELS += ["\udcff\udcfe", "\u202egrpo", "\u200b"]


@pytest.mark.parametrize("label", BAD_LABELS, ids=ascii)
def test_a_label_that_cannot_be_looked_up_is_refused_in_one_line(label):
    with pytest.raises(StoreError, match="a label must be") as caught:
        check_label(label)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "label", ["sdpo", "Qwen/Qwen2.5", "größer", "a b", "x" * 100, "=1", "日本"]
)
def test_a_label_that_can_be_looked_up_is_taken_and_found(tmp_path, label):
    assert check_label(label) == label
    run_id = write_run(tmp_path, label, {1}, 4)
    assert [item.info.run_id for item in find_evals(tmp_path, label)] == [run_id]


@pytest.mark.parametrize("label", ["a,b", "", "a\nb", "\udcff"])
def test_each_command_refuses_it_before_any_work(tmp_path, label):
    (tmp_path / "m.csv").write_text("step,loss\n1,2\n")
    commands = [
        ("import", tmp_path / "m.csv", f"--label={label}"),
        (
            "eval",
            "--gold",
            "--dataset",
            "embedded/test",
            "--sandbox",
            "process",
            f"--label={label}",
        ),
        ("gap", "--model", "none/such", f"--label={label}"),
    ]
    for command, *arguments in commands:
        result = invoke(command, tmp_path, *arguments)
        assert result.exit_code == 1, result.output
        assert "a label must be" in result.stderr
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_training_refuses_it_with_its_other_options():
    pytest.importorskip("trl")
    from trainer.options.config import BenchConfig, ConfigError

    with pytest.raises(ConfigError, match="a label must be"):
        BenchConfig(label="a,b")


def test_the_same_label_again_is_told_with_what_is_taken(tmp_path):
    (tmp_path / "m.jsonl").write_text(json.dumps({"task_id": 1, "completion": "x"}) + "\n")
    arguments = ("--completions", tmp_path / "m.jsonl", "--dataset", "embedded/train")
    arguments += ("--sandbox", "process", "--label", "twice")
    first = invoke("eval", tmp_path, *arguments)
    second = invoke("eval", tmp_path, *arguments)
    assert first.exit_code == second.exit_code == 0, first.output + second.output
    assert "have the label" not in first.stderr
    assert "1 run(s) have the label 'twice' already" in second.stderr
    other = write_run(tmp_path / "runs", "twice", {1}, 1)
    shown = invoke("show", tmp_path, "twice", 0)
    assert f"took the newest, {other}/final" in shown.stderr


@pytest.mark.parametrize(
    "names", [("x", "x"), ("x", "RUN"), ("x", "RUN/final"), ("x,x", "y"), ("y", "x,RUN")]
)
def test_a_comparison_of_a_run_with_itself_is_refused_in_one_line(tmp_path, names):
    run_id = write_run(tmp_path / "runs", "x", {1}, 4)
    write_run(tmp_path / "runs", "y", {1, 2}, 4)
    result = invoke("compare", tmp_path, *(name.replace("RUN", run_id) for name in names))
    assert result.exit_code == 1, result.output
    assert f"{run_id}/final twice" in result.stderr
    assert result.stderr.count("\n") == 1


def test_two_runs_of_one_label_can_be_compared_by_their_ids(tmp_path):
    ids = [write_run(tmp_path / "runs", "x", {n}, 4) for n in (1, 2)]
    assert invoke("compare", tmp_path, *ids).exit_code == 0


def test_the_newest_run_is_the_last_that_began_whatever_the_clock_said(tmp_path, monkeypatch):
    from datetime import UTC, datetime

    from analysis import provenance

    ids = []
    for year in (2031, 2026, 2027):  # the clock jumps back, and a little on

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None, year=year):
                return datetime(year, 1, 1, tzinfo=UTC)

        monkeypatch.setattr(provenance, "datetime", Clock)
        ids.append(write_run(tmp_path / "runs", "x", {1}, 4))
    said = []
    (found,) = find_evals(tmp_path / "runs", "x", say=said.append)
    assert found.info.run_id == ids[-1]
    assert any(ids[-1] in line for line in said)
    every = find_evals(tmp_path / "runs", "x", every_run=True)
    assert [item.info.run_id for item in every] == ids


def test_a_run_of_an_earlier_version_is_older_than_any_with_a_number(tmp_path):
    old = write_run(tmp_path, "x", {1}, 4)
    path = tmp_path / old / "run.json"
    content = json.loads(path.read_text())
    del content["sequence"]
    path.write_text(json.dumps({**content, "created_at": "2099-01-01T00:00:00.000+00:00"}))
    new = write_run(tmp_path, "x", {1}, 4)
    assert find_evals(tmp_path, "x")[0].info.run_id == new


def damage(run_dir, how):
    segment = next(run_dir.glob("segment-*"))
    match how:
        case "line":
            content = segment.read_bytes().splitlines(keepends=True)
            content[1] = content[1][:-20] + b"garbage\n"
            segment.write_bytes(b"".join(content))
        case "bytes":
            segment.write_bytes(segment.read_bytes() + b"\xff\xfe\n")
        case "run.json":
            (run_dir / "run.json").write_bytes(b'{"run_id": \xff')
        case "newer":
            content = json.loads((run_dir / "run.json").read_text())
            (run_dir / "run.json").write_text(json.dumps({**content, "schema_version": 99}))
        case "folder":
            (run_dir / "run.json").unlink()
            (run_dir / "run.json").mkdir()


@pytest.mark.parametrize("how", ["line", "bytes", "run.json", "newer", "folder"])
def test_one_damaged_run_leaves_the_others_to_compare_and_show(tmp_path, how):
    for label, solved in (("a", {1}), ("b", {1, 2}), ("broken", {3})):
        run_id = write_run(tmp_path / "runs", label, solved, 4)
    damage(tmp_path / "runs" / run_id, how)
    compared = invoke("compare", tmp_path, "a", "b")
    assert compared.exit_code == 0, compared.output
    assert "not distinguishable" in compared.stdout
    assert compared.stderr.count("left out: ") == 1, "said once, however many labels are looked for"
    shown = invoke("show", tmp_path, "a", 1)
    assert shown.exit_code == 0
    assert run_id in shown.stderr


def test_an_evaluation_with_a_damaged_line_is_never_compared_as_if_it_were_whole(tmp_path):
    write_run(tmp_path / "runs", "a", {1}, 6)
    run_id = write_run(tmp_path / "runs", "b", {1, 2}, 6)
    segment = next((tmp_path / "runs" / run_id).glob("segment-*"))
    lines = segment.read_bytes().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if b"eval_results" in line)
    lines[place] = lines[place].replace(b'"passed":false', b'"passed":true')
    segment.write_bytes(b"".join(lines))
    result = invoke("compare", tmp_path, "a", "b")
    assert result.exit_code == 1
    assert "must cover the same problems" in result.stderr


def test_resuming_still_wants_a_whole_journal(tmp_path):
    from evaluator.results.stored import read_evals

    run_id = write_run(tmp_path, "a", {1}, 4)
    damage(tmp_path / run_id, "line")
    with pytest.raises(StoreError, match="as it was written"):
        read_evals(tmp_path / run_id)


def test_steps_of_one_run_are_not_taken_for_seeds(tmp_path):
    from tests.evaluator.results.evaluations import INFO, result, summary

    info = INFO.model_copy(update={"run_id": "train-1", "label": "grpo"})
    with Journal.create(tmp_path, info) as journal:
        for step in (0, 50):
            for task in range(4):
                journal.append(result(f"step-{step}", task, task < step))
            journal.append(summary(f"step-{step}", "grpo", 4 * (step > 0), 4, step=step))
    assert [item.name for item in find_evals(tmp_path, "grpo", every_run=True)] == [
        "train-1/step-50"
    ]


@pytest.fixture
def three(tmp_path):
    """Two runs of one label and one of another; returns their ids."""
    return [write_run(tmp_path / "runs", label, {1}, 4) for label in ("x", "x", "y")]


@pytest.mark.slow
def test_report_and_plots_take_what_compare_takes(tmp_path, three):
    pytest.importorskip("altair")
    names = ["x,y", f"{three[0]}/final", "y"]
    page = reads("report", tmp_path, *names, "--output", tmp_path / "p.html")
    assert page.exit_code == 0, page.output
    assert f"took the newest, {three[1]}" in page.stderr
    options = [word for name in names for word in ("--run", name)]
    drawn = reads(
        "plots",
        tmp_path,
        *options,
        "--figure",
        "comparison",
        "--output-dir",
        tmp_path / "c",
        "--form",
        "json",
    )
    assert drawn.exit_code == 0, drawn.output
    unknown = reads("report", tmp_path, "nobody", "--output", tmp_path / "p.html")
    assert unknown.exit_code == 1
    assert unknown.stderr.count("\n") == 1
    assert "a run must be in the results, got 'nobody'" in unknown.stderr


def test_an_unknown_name_says_where_names_are_listed(tmp_path, three):
    with pytest.raises(StoredError, match="sdpo-bench runs"):
        find_evals(tmp_path / "runs", "y" * 5000)
    shutil.rmtree(tmp_path / "runs" / three[2])
    with pytest.raises(StoredError):
        find_evals(tmp_path / "runs", "y")
