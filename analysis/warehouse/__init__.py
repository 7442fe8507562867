"""The DuckDB file, built from the journals; tables, views, ingest.

Does not show anything. The journals stay the truth.
Public: `warehouse.ingest, connect`, `tables.record_tables, schema_sql`.
"""
