"""What the demo keeps between interruptions, and what it says at its end."""

import io
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from analysis.provenance import Named, Weights, run_info
from evaluator.results.stored import StoredEval
from sdpo_bench import main
from trainer.cli.seeds import Seeds
from trainer.demo.display import Display
from trainer.demo.narration import Row, Story, print_story, tell
from trainer.demo.policy import Recipe
from trainer.demo.pretraining import orthogonal
from trainer.demo.runs import Ledger
from trainer.demo.teacher_gap import SHOWN, Reading, store_reading, stored_reading
from trainer.options.config import ConfigError

READING = Reading(200, dict(zip(SHOWN, (90, 190, 12, 88, 150), strict=True)))


def stored(label, solved, n=200, algorithm=None):
    """A finished evaluation of `n` problems."""
    info = run_info(
        kind="train" if algorithm else "eval", label=label, algorithm=algorithm, config={},
        seed=int(label[-1]) if algorithm else None, weights=Weights("m"),
        dataset=Named("d", "d"), protocol=Named("p", "p"), sandbox="fake",
    ).model_copy(update={"run_id": label})  # fmt: skip
    row = SimpleNamespace(
        eval_id="final",
        label=label,
        dataset="d",
        dataset_sha256="d",
        protocol="p",
        decoding="g",
        step=None,
    )
    results = {(i, 0): SimpleNamespace(passed=i < solved, completion=label) for i in range(n)}
    return StoredEval(info, Path(), row, results)


def story(*, control=False, grpo=(180,), sdpo=(185,), reading=READING):
    trained = {
        method: [stored(f"{method}-{i}", k, algorithm=method) for i, k in enumerate(solved)]
        for method, solved in (("grpo", grpo), ("sdpo", sdpo))
    }
    seconds = {"grpo": [30.0] * len(grpo), "sdpo": [20.0] * (len(sdpo) - 1) + [None]}
    return tell(
        stored("baseline", 90), trained, seconds, reading, control=control, failed_layers=()
    )


def test_a_ledger_is_read_back_and_other_settings_begin_an_empty_one(tmp_path):
    ledger = Ledger(tmp_path / "ledger.json", "key")
    ledger.note("grpo", "run-1", finished=False)
    ledger.note("audit", "run-2", finished=True, seconds=3.0, failed_layers=["loss"])
    again = Ledger(tmp_path / "ledger.json", "key")
    assert (again.begun("grpo"), again.finished("grpo")) == ("run-1", None)
    assert (again.finished("audit"), again.seconds("audit")) == ("run-2", 3.0)
    assert again.failed_layers("audit") == ("loss",)
    assert Ledger(tmp_path / "ledger.json", "other").begun("grpo") is None


def test_the_key_of_a_policy_depends_on_its_recipe_alone():
    assert Recipe().key() == Recipe().key()
    assert Recipe().key() != replace(Recipe(), seed=43).key()
    assert Recipe().key() != replace(Recipe(), reprompts=False).key()


def test_what_was_measured_is_read_back(tmp_path):
    store_reading(tmp_path / "reading.json", READING)
    assert stored_reading(tmp_path / "reading.json") == READING
    assert stored_reading(tmp_path / "none.json") is None


def test_singular_values_come_near_one():
    torch.manual_seed(0)
    for shape in ((96, 264), (264, 96), (96, 96)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.2 and values.max() < 1.3
        assert values.median() == pytest.approx(1.0, abs=0.3)


def test_a_difference_that_is_none_is_not_called_one():
    text = " ".join(story(sdpo=(183,)).sentences())
    assert "sdpo does not beat grpo, nor the reverse" in text
    assert "grpo solves more than baseline" in text and "one seed does not tell" in text


def test_where_sdpo_is_behind_grpo_the_story_says_so():
    text = " ".join(story(sdpo=(100,)).sentences())
    assert "sdpo solves fewer than grpo" in text


def test_the_control_says_why_only_where_the_runs_show_it():
    blind = replace(READING, solved={**READING.solved, "a correct solution": 80})
    shown = " ".join(story(control=True, sdpo=(88,), reading=blind).sentences())
    assert "SDPO teaches that confusion (90 of 200 solved without" in shown
    not_shown = " ".join(story(control=True, sdpo=(185,), reading=blind).sentences())
    assert "confusion" not in not_shown


def test_deviations_of_the_audit_are_named():
    found = replace(story(), failed_layers=("loss", "teacher"))
    assert any("deviations in: loss, teacher" in sentence for sentence in found.sentences())


def printed(found, width=120):
    out = io.StringIO()
    print_story(found, Console(file=out, width=width))
    return out.getvalue()


def test_the_table_has_a_row_for_each_policy():
    text = printed(story())
    for words in ("solved of 200", "45.0%", " 180 ", "92.5%", "a wrong one", "12 of 200"):
        assert words in text


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_shows_every_count_of_five_seeds(width):
    text = printed(story(grpo=(180, 150, 161, 162, 163), sdpo=(185, 190, 171, 172, 173)), width)
    for words in ("180, 150, 161, 162, 163", "185, 190, 171, 172, 173", "solved of 200"):
        assert words in text
    assert "…" not in text and max(map(len, text.splitlines())) <= width


def test_several_seeds_are_shown_each_and_compared_together():
    found = story(grpo=(180, 150), sdpo=(185, 190))
    (baseline, grpo, sdpo) = found.rows
    assert (grpo.solved, grpo.rate, grpo.seconds) == ((180, 150), 0.825, 30.0)
    assert sdpo.seconds is None  # one of its runs was interrupted
    assert grpo.against_baseline.n_seeds == (1, 2) and baseline.against_baseline is None
    assert sdpo.against_baseline.p_adjusted >= 2 * sdpo.against_baseline.p  # of three comparisons
    text = printed(found)
    assert "180, 150" in text and "2 seeds, one start" in text
    assert "One seed" in printed(story())


def test_the_story_says_that_another_processor_counts_otherwise():
    assert "On another kind of processor the trained counts differ" in printed(story())


def test_without_a_terminal_progress_is_a_few_lines():
    out = io.StringIO()
    show = Display(Console(file=out, width=100))
    with show.stage("grpo", 8) as advance:
        for _ in range(8):
            advance(1)
    lines = out.getvalue().splitlines()
    assert lines[0] == "grpo ..." and lines[-1].startswith("  done in")
    assert len(lines) == 5


def test_a_row_holds_what_was_solved():
    (baseline, *_) = story().rows
    assert isinstance(baseline, Row) and isinstance(story(), Story)
    assert (baseline.solved, baseline.n, baseline.against_baseline) == ((90,), 200, None)


def test_seeds_are_different_whole_numbers():
    convert = Seeds().convert
    assert convert("42, 7", None, None) == (42, 7)
    for wrong in ("", "42,", "a", "42,042", "-1", "4 2", "1" * 12):
        with pytest.raises(click.BadParameter, match="different whole numbers"):
            convert(wrong, None, None)


@pytest.mark.parametrize("content", ['{"key": "x"', "[]", '{"key": "key", "runs": [1]}', "\udcff"])
def test_a_damaged_ledger_is_one_line(tmp_path, content):
    path = tmp_path / "ledger.json"
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(ConfigError, match="ledger must be as it was written.*remove it"):
        Ledger(path, "key")


def test_a_disk_that_is_nearly_full_is_one_line_before_anything_is_done(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=3 << 20)
    monkeypatch.setattr("trainer.demo.demo.shutil.disk_usage", lambda folder: usage)
    result = CliRunner().invoke(main, ["demo", "--dir", str(tmp_path / "demo")])
    assert result.exit_code == 1
    assert "must have 200 MiB free for a demo, got 3 MiB" in result.stderr
    assert list((tmp_path / "demo").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["demo", "warm-start", "--dir", str(tmp_path / "file/x")])
    assert result.exit_code == 1
    assert "the demo's folder must be writable" in result.stderr


@pytest.mark.parametrize(
    "words", [["--seed", "7"], ["--seeds", "1,1"], ["contrl"], ["--learning_rat", "1"]]
)
def test_a_misspelt_demo_is_refused_before_anything_is_done(words, tmp_path):
    result = CliRunner().invoke(main, ["demo", *words, "--dir", str(tmp_path / "demo")])
    assert result.exit_code in (1, 2) and "got" in result.stderr
    assert not (tmp_path / "demo" / "policies").exists()
