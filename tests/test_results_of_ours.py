"""The page of our own results: its figures come from the published rows, and the rows name no machine."""

import re

import duckdb
import pytest

from scripts.results_page import PAGE, ROWS, written


@pytest.mark.long
@pytest.mark.slow
def test_every_block_prints_what_the_published_rows_say():
    text = PAGE.read_text()
    assert text.count("```console") >= 5
    assert written(text) == text, "run `python -m scripts.results_page`"


def test_the_problems_solved_on_the_page_are_those_of_the_published_rows():
    file = ROWS / "smollm2-135m" / "evals" / "all.parquet"
    greedy = duckdb.read_parquet(str(file)).filter("decoding LIKE 'greedy%'")
    rows = greedy.select("label, k, n").fetchall()
    assert len(rows) == 7
    for label, k, n in rows:
        assert re.search(rf"^{re.escape(label)} +{k} of {n} ", PAGE.read_text(), re.MULTILINE), (
            label
        )


def test_no_row_names_a_path_of_a_machine():
    for file in ROWS.rglob("*.parquet"):
        table = duckdb.read_parquet(str(file))
        texts = ", ".join(f'CAST("{column}" AS VARCHAR)' for column in table.columns)
        path = r"(^|[^\w.])/(home|root|tmp|work|mnt|Users)/\w"
        found = table.filter(f"regexp_matches(concat_ws(' ', {texts}), '{path}')")
        assert not found.fetchall(), file
