"""One HTML page of the results, the figures as files, the export.

Draws no chart itself: `analysis.charts` does.
Public: `report.build_report`, `figures.FIGURES, save`, `export.export_parquet`, `watch.LivePage`.
"""
