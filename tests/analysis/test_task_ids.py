"""Names of problems on their way through journal, tables, views, comparison, report and export."""

import random

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.journal.journal import Journal, segments
from analysis.journal.lines import scan
from analysis.records import EvalResult
from analysis.report.export import export_parquet
from analysis.report.report import build_report
from analysis.task_ids import checked_task_id, task_id, task_number, task_order
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import eval_records, synthetic_info
from evaluator.results.compare import Side, compare
from evaluator.results.stored import find_evals

NAMES = ["mine/1", "mine/2", "mine/10", "other", 9, 10]


def test_numbers_stay_numbers_and_their_text_is_the_same_id():
    assert [task_id(x) for x in (56, "56", "mine/56", "056", "-0", "5.0", " 5")] == [
        56, 56, "mine/56", "056", "-0", "5.0", " 5",
    ]  # fmt: skip
    assert task_number(56) == 56 and task_number("mine/56") == task_number("mine/56")
    assert task_number("mine/56") != task_number("mine/57")
    for value in (True, 1.5, None, ["a"]):
        with pytest.raises(ValueError, match="an integer or a text"):
            task_id(value)


@given(
    st.lists(
        st.one_of(st.integers(0, 10**6), st.from_regex(r"[a-z/]{1,3}[0-9]{1,4}", fullmatch=True))
    )
)
@settings(max_examples=20, deadline=None)
def test_the_macro_orders_as_python_does(ids):
    texts = sorted({str(each) for each in ids})
    with duckdb.connect() as connection:
        connection.execute(MACRO)
        found = connection.execute(
            "SELECT id FROM (SELECT unnest($1::VARCHAR[]) AS id) ORDER BY task_order(id), id",
            [texts],
        ).fetchall()
    assert [row[0] for row in found] == sorted(texts, key=lambda text: (task_order(text), text))


def _macro():
    from analysis.warehouse.tables import VIEWS_SQL

    text = VIEWS_SQL.read_text()
    start = text.index("CREATE MACRO task_order")
    return text[start : text.index(";", start)]


MACRO = _macro()


@pytest.mark.parametrize("good", ["a", "mine/1", "A.b-c_d:e/f 2", "\u00e9t\u00e9/1", "x" * 100])
def test_these_are_names(good):
    assert checked_task_id(good) == good


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two evaluations of problems with names, the later one solving more."""
    runs = tmp_path_factory.mktemp("named") / "runs"
    for label, skill in (("before", 0.2), ("after", 0.9)):
        info = synthetic_info(f"eval-{label}", algorithm=None, kind="eval", label=label)
        with Journal.create(runs, info) as journal:
            rng = random.Random(label)
            records = eval_records(rng, step=None, skill=skill, n_problems=len(NAMES), n_samples=1)
            for record in records:
                if isinstance(record, EvalResult):
                    name = NAMES[record.task_id - 11]
                    record = record.model_copy(update={"task_id": name})
                journal.append(record)
    ingest(runs, runs.parent / "results.duckdb")
    return runs.parent


def test_the_views_have_the_names_in_order(folder):
    with connect(folder / "results.duckdb") as connection:
        found = connection.execute(
            "SELECT task_id FROM solve_matrix WHERE run_id = 'eval-after' ORDER BY task_order(task_id)"
        ).fetchall()
        flips = connection.execute("SELECT count(*) FROM flips WHERE run_a <> run_b").fetchall()
    assert [row[0] for row in found] == ["9", "10", "mine/1", "mine/2", "mine/10", "other"]
    assert flips[0][0] > 0


def test_stored_evaluations_are_compared_by_name(folder):
    (before,), (after,) = (
        find_evals(folder / "runs", name) for name in ("eval-before", "eval-after")
    )
    assert [name for name, _ in after.results] == [9, 10, "mine/1", "mine/2", "mine/10", "other"]
    (found,) = compare([Side("before", (before,)), Side("after", (after,))])
    assert {*found.gained_tasks, *found.lost_tasks} <= set(NAMES)


def test_report_and_export_have_the_names(folder, tmp_path):
    pytest.importorskip("altair")
    with connect(folder / "results.duckdb") as connection:
        assert "mine/10" in build_report(connection)
        export_parquet(connection, tmp_path / "out")
    ids = (
        duckdb.connect()
        .execute(
            "SELECT DISTINCT task_id FROM read_parquet(?)",
            [f"{tmp_path}/out/eval_results/*/*.parquet"],
        )
        .fetchall()
    )
    assert {row[0] for row in ids} == {str(name) for name in NAMES}


def test_a_hostile_name_from_a_journal_is_text_in_the_report(tmp_path):
    pytest.importorskip("altair")
    info = synthetic_info("eval-x", algorithm=None, kind="eval", label="x")
    with Journal.create(tmp_path / "runs", info) as journal:
        for record in eval_records(
            random.Random(1), step=None, skill=0.5, n_problems=9, n_samples=1
        ):
            if isinstance(record, EvalResult):
                name = f"</script><script>alert({record.task_id})"
                record = record.model_copy(update={"task_id": name})
            journal.append(record)
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        assert "<script>alert(" not in build_report(connection)


def test_a_journal_from_before_names_is_read_as_it_is(tmp_path):
    info = synthetic_info("eval-old", algorithm=None, kind="eval", label="old")
    with Journal.create(tmp_path / "runs", info) as journal:
        for record in eval_records(
            random.Random(1), step=None, skill=0.5, n_problems=3, n_samples=1
        ):
            journal.append(record)
    (path,) = (path for _, path in segments(tmp_path / "runs" / "eval-old"))
    assert any(b'"task_id":11' in getattr(line, "row", b"") for line in scan(path)), "a number"
    (item,) = find_evals(tmp_path / "runs", "eval-old")
    assert [name for name, _ in item.results] == [11, 12, 13]
