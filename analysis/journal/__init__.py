"""The one writer of results: append-only, checksummed lines.

Does not know SQL.
Public: `journal.Journal, StoreError, segments`, `lines.scan, encode`.
"""
