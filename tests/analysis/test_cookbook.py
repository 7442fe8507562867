import re
from pathlib import Path

import pytest

from analysis.report.figures import FIGURES
from analysis.warehouse.tables import record_tables, schema_sql
from analysis.warehouse.warehouse import connect

PAGE = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n-- (.*?)\n(.*?)```", PAGE, re.DOTALL)
MAY_BE_EMPTY = "Are losses finite"


@pytest.fixture(scope="module")
def connection(recorded):
    with connect(recorded / "results" / "results.duckdb") as opened:
        yield opened


def test_there_are_at_least_fifteen_queries():
    assert len(QUERIES) >= 15


@pytest.mark.parametrize(("question", "query"), QUERIES, ids=[q[:50] for q, _ in QUERIES])
def test_each_query_of_the_cookbook_answers(connection, question, query):
    rows = connection.execute(query).fetchall()
    assert rows or question.startswith(MAY_BE_EMPTY)


def test_the_page_names_every_table_view_and_figure():
    views = re.findall(r"CREATE VIEW (\w+)", schema_sql())
    for name in [*record_tables(), *views, *(figure.name for figure in FIGURES)]:
        assert f"`{name}`" in PAGE, name
