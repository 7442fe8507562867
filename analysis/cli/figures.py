"""Commands that draw the results: plots, report, watch."""

from __future__ import annotations

from pathlib import Path

import click

from analysis.cli.options import (
    INGEST,
    JSON_FILE,
    RESULTS,
    RUNS_DIR,
    chosen_runs,
    one_line_errors,
    read_journals,
)
from analysis.render import Result, echo, make_folder, to_json, write_text
from analysis.report.figures import FIGURES, draw, save
from analysis.shell_completion import run_names
from analysis.warehouse.warehouse import connect
from analysis.warehouse.warehouse import ingest as ingest_journals


@click.command()
@click.option(
    "--run",
    "run_ids",
    multiple=True,
    shell_complete=run_names,
    help="Only this run, by its id or label; may be repeated.",
)
@click.option(
    "--figure",
    "names",
    multiple=True,
    type=click.Choice([figure.name for figure in FIGURES]),
    help="Only this figure; may be repeated.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results/charts"),
    show_default=True,
    help="Folder for the files.",
)
@click.option(
    "--form",
    "forms",
    multiple=True,
    type=click.Choice(["png", "svg", "html", "json"]),
    default=("png", "svg"),
    show_default=True,
    help="Format of the files; may be repeated.",
)
@RUNS_DIR
@RESULTS
@INGEST
@JSON_FILE
@one_line_errors
def plots(
    *,
    run_ids: tuple[str, ...],
    names: tuple[str, ...],
    output_dir: Path,
    forms: tuple[str, ...],
    runs_dir: Path,
    results: Path,
    ingest_first: bool,
    json_file: Path | None,
) -> None:
    """Draw pass@1 over steps, training reward and every other figure for which there are rows.

    \b
    Example:  sdpo-bench plots
              sdpo-bench plots --figure pass_at_1 --run RUN_ID --form svg
    """
    make_folder(output_dir)
    if ingest_first:
        read_journals(runs_dir, results)
    figures = [figure for figure in FIGURES if not names or figure.name in names]
    with connect(results) as connection:
        run_ids = chosen_runs(connection, run_ids)
        drawn = draw(connection, figures, run_ids or None)
    rows = [
        (each.name, len(each.rows.rows), ", ".join(map(str, save(each, output_dir, forms))))
        for each in drawn
    ]
    result = Result(("figure", "n_rows", "files"), rows)
    if json_file:
        write_text(json_file, to_json(result))
    if not rows:
        click.echo("no rows for any figure; train or evaluate first")
        return
    for name, n_rows, paths in rows:
        echo(f"{name} ({n_rows} rows): {paths}")


@click.command()
@click.argument("run_ids", metavar="[RUN]...", nargs=-1, shell_complete=run_names)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("results/report.html"),
    show_default=True,
    help="The HTML file.",
)
@click.option(
    "--note", "notes", multiple=True, help="A line to add below the verdict; may be repeated."
)
@RUNS_DIR
@RESULTS
@INGEST
@one_line_errors
def report(
    *,
    run_ids: tuple[str, ...],
    output: Path,
    notes: tuple[str, ...],
    runs_dir: Path,
    results: Path,
    ingest_first: bool,
) -> None:
    """Write one self-contained HTML page: verdict, leaderboard, figures, completions.

    It opens from disk and needs no network. Name a run as in `compare`: by its id or label.

    \b
    Example:  sdpo-bench report
              sdpo-bench report RUN_A RUN_B --output comparison.html
    """
    from analysis.report.report import build_report

    make_folder(output.parent)
    if ingest_first:
        read_journals(runs_dir, results)
    with connect(results) as connection:
        run_ids = chosen_runs(connection, run_ids)
        page = build_report(connection, run_ids or None, notes=notes, runs_dir=runs_dir)
    write_text(output, page)
    echo(f"{output} ({len(page) / 1e6:.1f} MB)")


@click.command()
@click.argument("run_ids", metavar="[RUN]...", nargs=-1, shell_complete=run_names)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port of 127.0.0.1; 0 takes any free one.",
)
@click.option(
    "--every",
    "refresh_s",
    type=click.IntRange(1, 3600),
    default=10,
    show_default=True,
    help="Seconds after which an open page asks for changes.",
)
@RUNS_DIR
@RESULTS
@one_line_errors
def watch(
    *, run_ids: tuple[str, ...], port: int, refresh_s: int, runs_dir: Path, results: Path
) -> None:
    """Serve the report on this machine; an open page follows the runs.

    Only this machine can reach it. From another one: ssh -L 8765:127.0.0.1:8765 MACHINE

    \b
    Example:  sdpo-bench watch
              sdpo-bench watch RUN_ID --port 9000 --every 30
    """
    from analysis.report.report import build_report
    from analysis.report.watch import ADDRESS, LivePage, make_server

    def build() -> str:
        ingest_journals(runs_dir, results, may_replace=False)
        with connect(results) as connection:
            return build_report(connection, chosen or None, refresh_s=refresh_s, runs_dir=runs_dir)

    read_journals(runs_dir, results)
    with connect(results) as connection:
        chosen = chosen_runs(connection, run_ids)
    with make_server(LivePage(runs_dir, build), port) as server:
        try:
            address = f"http://{ADDRESS}:{server.server_address[1]}/"
            echo(f"{address} shows {runs_dir}; Ctrl-C ends it")
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("ended")
