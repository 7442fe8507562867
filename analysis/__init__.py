"""Owns the results: journal, DuckDB warehouse, SQL views, charts, report and the statistics of a comparison.

Imports no other package of ours, and neither torch nor Docker.

Public: `journal.journal.Journal, StoreError`, `warehouse.warehouse.ingest, connect`, `queries.sql.run_query`,
`statistics.verdict.judge`, `report.report.build_report`.
"""
