"""Owns the results: journal, DuckDB warehouse, SQL, charts; imports no other package of ours."""
