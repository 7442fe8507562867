"""Owns the results: journal, DuckDB warehouse, SQL, charts. A leaf: imports none of the other packages."""
