import pytest

from analysis.records import RECORDS, RunInfo
from analysis.warehouse.tables import record_tables, run_table, schema_sha256
from analysis.warehouse.warehouse import connect


@pytest.fixture
def empty(warehouse):
    return warehouse


def without_comment(connection):
    return connection.execute(
        """SELECT table_name, column_name FROM duckdb_columns()
           WHERE NOT internal AND coalesce(comment, '') = ''
           UNION ALL SELECT table_name, '' FROM duckdb_tables() WHERE coalesce(comment, '') = ''
           UNION ALL SELECT view_name, '' FROM duckdb_views()
           WHERE NOT internal AND coalesce(comment, '') = ''"""
    ).fetchall()


def test_every_table_view_and_column_is_commented(empty):
    assert without_comment(empty) == []


def test_a_results_file_has_every_comment(recorded):
    with connect(recorded / "results" / "results.duckdb") as connection:
        assert without_comment(connection) == []


def test_comments_of_columns_come_from_the_records(empty):
    for record in RECORDS:
        for name, field in record.model_fields.items():
            (comment,) = empty.execute(
                """SELECT comment FROM duckdb_columns() WHERE table_name = ? AND column_name = ?""",
                [record.table, name],
            ).fetchone()
            assert comment == field.description


def test_every_view_runs_on_an_empty_warehouse(empty):
    views = empty.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    assert len(views) >= 10
    for (name,) in views:
        assert empty.execute(f'FROM "{name}"').fetchall() == []


def test_the_views_that_people_are_promised_exist(empty):
    names = {row[0] for row in empty.execute("SELECT view_name FROM duckdb_views()").fetchall()}
    assert names >= set(
        "leaderboard reward_curve pass_at_k flips failure_classes solve_matrix audit_summary "
        "teacher_coverage step_time_split reward_hacking_suspects".split()
    )


def test_there_is_no_index(empty):
    assert empty.execute("FROM duckdb_indexes()").fetchall() == []


def test_no_column_needs_quotes(empty):
    """A name that is a SQL keyword could not be written as people write it."""
    columns = empty.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal"
    ).fetchall()
    for table, column in columns:
        empty.execute(f"SELECT {column} FROM {table}")  # noqa: S608


def test_each_key_is_made_of_columns_of_its_table():
    for table in [run_table(), *record_tables().values()]:
        assert set(table.key) <= {column.name for column in table.columns}
    assert run_table().key == ("run_id",)
    assert [column.name for column in run_table().columns] == list(RunInfo.model_fields)


def test_the_schema_has_one_identity():
    assert schema_sha256() == schema_sha256()
    assert len(schema_sha256()) == 64


def test_the_quantile_of_t_is_right(empty):
    from scipy.stats import t

    for df in (3, 5, 10, 40, 1000):
        (value,) = empty.execute("SELECT t_975(?)", [df]).fetchone()
        assert value == pytest.approx(t.ppf(0.975, df), rel=0.008)
    assert empty.execute("SELECT t_975(1)").fetchone() == (None,)
