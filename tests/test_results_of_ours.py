"""The page of our own results: its figures come from the published rows, and the rows name no machine."""

import re

import duckdb

from scripts.results_page import PAGE, ROWS, written


def test_every_block_prints_what_the_published_rows_say():
    text = PAGE.read_text()
    assert text.count("```console") >= 5
    assert written(text) == text, "run `python -m scripts.results_page`"


def test_no_row_names_a_path_of_a_machine():
    for file in ROWS.rglob("*.parquet"):
        table = duckdb.read_parquet(str(file))
        text = "".join(map(repr, table.fetchall()))
        assert not re.search(r"(?<![\w.])/(home|root|tmp|work|mnt|Users)/\w", text), file
