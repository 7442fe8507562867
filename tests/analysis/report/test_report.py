import base64
import gzip
import hashlib
import json
import random
import re

import duckdb
import pytest
from click.testing import CliRunner

from analysis.journal.journal import Journal
from analysis.records import Rollout
from analysis.report.report import build_report
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import eval_records, step_records, synthetic_info
from sdpo_bench import main

pytest.importorskip("altair")

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>{{data}}\x00"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Results whose every text tries to be markup."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = random.Random(0)
    info = synthetic_info("train-hostile", label=HOSTILE)
    with Journal.create(folder / "runs", info) as journal:
        for record in step_records(rng, step=1, skill=0.5):
            if isinstance(record, Rollout):
                texts = dict.fromkeys(("prompt", "completion", "teacher_prompt"), HOSTILE)
                record = Rollout(**{**record.model_dump(), **texts, "feedback": HOSTILE})
            journal.append(record)
        for record in eval_records(rng, step=1, skill=0.5, n_problems=5):
            journal.append(record)
    ingest(folder / "runs", folder / "results.duckdb")
    return folder


@pytest.fixture(scope="module")
def hostile_page(hostile):
    with connect(hostile / "results.duckdb") as connection:
        return build_report(connection)


def packed(page):
    data = re.search(r'id="data">([^<]*)<', page)[1]
    table = json.loads(gzip.decompress(base64.b64decode(data)))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def test_the_page_asks_the_network_for_nothing(page):
    """What its policy allows: its one script and its styles; what it links to is itself."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'")
    script = page[page.rindex("<script>") + len("<script>") : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    sources = re.findall(r'(?:src|href)\s*=\s*"?([^"\s>]*)', page)
    assert sources
    assert all(source.startswith("#") for source in sources)


def test_every_placeholder_is_filled_and_none_comes_from_a_run(page, hostile_page):
    assert "{{" not in page
    filled = hostile_page
    assert filled.count(re.search(r'id="data">([^<]*)<', filled)[1]) == 1


def test_the_completions_of_the_page_are_the_stored_ones(page, recorded):
    rows = packed(page)
    with connect(recorded / "results" / "results.duckdb") as connection:
        stored = connection.execute(
            """SELECT run_id, step, completion, feedback FROM rollouts UNION ALL
               SELECT r.run_id, e.step, completion, feedback
               FROM eval_results r JOIN evals e USING (run_id, eval_id)
               SEMI JOIN leaderboard USING (run_id, eval_id) WHERE sample_index = 0"""
        ).fetchall()
    kept = sorted(
        ((r["run_id"], r["step"], r["completion"], r["feedback"]) for r in rows), key=repr
    )
    assert kept == sorted(stored, key=repr)
    assert {row["source"] for row in rows} == {"training", "evaluation"}
    assert all(len(row["tests"]) == 3 for row in rows)


def test_text_of_a_run_is_never_markup(hostile_page):
    page = hostile_page
    assert "\x00" not in page
    assert "<script>document" not in page
    assert "<img src=x" not in page
    assert "&lt;/script&gt;&lt;script&gt;document" in page
    assert page.count("<script") == 2
    trained = [row for row in packed(page) if row["source"] == "training"]
    assert {row["completion"] for row in trained} == {HOSTILE}


@pytest.mark.slow
def test_notes_stand_on_the_page_as_text(recorded):
    notes = ("SDPO lost 3.", "<b>no markup</b>")
    with connect(recorded / "results" / "results.duckdb") as connection:
        page = build_report(connection, notes=notes)
    assert "<li>SDPO lost 3.</li>" in page
    assert "<b>no" not in page and "&lt;b&gt;no markup" in page


@pytest.mark.slow
def test_a_page_of_3200_long_completions_is_under_5_mb(tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.report.completions.MOST_ROLLOUTS", 3200)
    n_steps = 250
    rng = random.Random(0)
    words = [f"{rng.randrange(36**4):x}" for _ in range(3000)]
    with Journal.create(tmp_path / "runs", synthetic_info("a")) as journal:
        for step in range(1, n_steps + 1):
            for record in step_records(rng, step=step, skill=0.5):
                if isinstance(record, Rollout):
                    text = " ".join(rng.choices(words, k=120))
                    record = Rollout(**{**record.model_dump(), "completion": text})
                journal.append(record)
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        page = build_report(connection)
    rows = packed(page)
    assert len(page) < 5_000_000
    assert 1440 < len(rows) <= 3200
    steps = {row["step"] for row in rows}
    assert len(rows) == 16 * len(steps), "whole steps are kept"
    assert max(steps) > n_steps - 10


def test_a_report_without_any_run_says_so(tmp_path):
    (tmp_path / "runs").mkdir()
    arguments = ["report", "--runs-dir", tmp_path / "runs", "--results", tmp_path / "r.duckdb"]
    result = CliRunner().invoke(main, [*map(str, arguments), "--output", str(tmp_path / "r.html")])
    assert result.exit_code == 0, result.output
    assert "No evaluation has finished" in (tmp_path / "r.html").read_text()


def test_export_writes_each_table_by_run_and_other_readers_see_the_same(recorded, tmp_path):
    results = recorded / "results" / "results.duckdb"
    arguments = ["export", "--no-ingest", "--results", str(results)]
    folder = tmp_path / "parquet"
    result = CliRunner().invoke(main, [*arguments, "--parquet", str(folder)])
    assert result.exit_code == 0, result.output
    query = "SELECT run_id, count(*), sum(reward) FROM {} GROUP BY 1 ORDER BY 1"
    with connect(results) as connection, duckdb.connect() as other:
        ours = connection.execute(query.format("rollouts")).fetchall()
        theirs = other.execute(
            query.format(f"read_parquet('{folder}/rollouts/*/*.parquet', hive_partitioning=true)")
        ).fetchall()
    assert [row[:2] for row in theirs] == [row[:2] for row in ours]
    again = CliRunner().invoke(main, [*arguments, "--parquet", str(folder)])
    assert again.exit_code == 1
    assert "must not exist yet" in again.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["parquet"]


def test_a_killed_run_is_not_called_running(tmp_path):
    """Its last word was that it runs; that of a run whose folder is elsewhere is all that is known."""
    runs = tmp_path / "runs"
    for name in ("killed", "elsewhere"):
        Journal.create(runs, synthetic_info(name))._release()
    with Journal.create(runs, synthetic_info("alive")) as journal:
        journal.commit()
        ingest(runs, tmp_path / "results.duckdb")
        (runs / "elsewhere").rename(tmp_path / "elsewhere")
        with connect(tmp_path / "results.duckdb") as connection:
            page = build_report(connection, runs_dir=runs)
    table = page[page.index('aria-label="Runs"') :]
    for state in ("interrupted", "running", "running"):
        table = table[table.index(f">{state}<") :]


def test_a_reward_that_is_no_number_is_not_shown_as_0(tmp_path):
    with Journal.create(tmp_path / "runs", synthetic_info("r")) as journal:
        for record in step_records(random.Random(0), step=1, skill=0.5):
            if isinstance(record, Rollout):
                record = record.model_copy(update={"reward": float("nan")})
            journal.append(record)
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        rows = packed(build_report(connection))
    assert {row["reward"] for row in rows} == {"nan"}
