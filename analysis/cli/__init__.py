"""The commands over the results: ingest, sql, runs, export, plots, report, watch, import.

Options and printing alone; the work is done in the other folders.
Public: `results`, `figures`, `imports`, `options`.
"""
