import json
import re
import struct
import xml.etree.ElementTree as ElementTree
import zlib

import duckdb
import pytest

pytest.importorskip("altair")

from click.testing import CliRunner

from analysis import charts
from analysis.render import Result
from analysis.report.figures import FIGURES, draw, save, save_chart
from analysis.warehouse.warehouse import connect
from sdpo_bench import main

ESTIMATES = {
    "pass_at_1": "interval_low",
    "training_reward": "interval_low",
    "pass_at_k": "interval_low",
    "comparison": "interval_low",
    "group_signal": "interval_low",
    "teacher_kinds": "interval_low",
}

SOME_DRAWN, SOME_IN_PIXELS = (
    [
        pytest.param(figure.name, marks=() if i % every == 0 else pytest.mark.slow)
        for i, figure in enumerate(FIGURES)
    ]
    for every in (3, 15)
)
"""What each shows is tested on its SVG, the other form of one drawing."""


@pytest.fixture(scope="module")
def connection(recorded):
    with connect(recorded / "results" / "results.duckdb") as opened:
        yield opened


def _titles(spec):
    """Axis titles anywhere in a chart."""
    found = []
    for key, value in spec.items() if isinstance(spec, dict) else enumerate(spec):
        if key in ("x", "y") and isinstance(value, dict) and "field" in value:
            found.append(value.get("title"))
        if isinstance(value, dict | list):
            found += _titles(value)
    return found


def _pixels(png):
    """Rows of raw bytes of a PNG, after the filter byte."""
    width, height = struct.unpack(">II", png[16:24])
    place, data = 8, b""
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += 12 + length
    return width, height, zlib.decompress(data)


def test_every_figure_is_drawn_from_the_recorded_results(drawn):
    assert {figure.name for figure in FIGURES} <= set(drawn)


@pytest.mark.parametrize("name", [figure.name for figure in FIGURES])
def test_a_figure_says_n_and_seeds_and_its_axes_have_titles(drawn, name):
    spec = json.loads(drawn[name].chart.to_json())
    subtitle = " ".join(spec["title"]["subtitle"])
    assert re.search(r"n = [\d,]+|mean over [\d,]+", subtitle)
    assert re.search(r"seeds? \d+", subtitle)
    marks = json.dumps(spec)
    if name in ESTIMATES:
        assert ESTIMATES[name] in marks
    titles = [title for title in _titles(spec) if title is not None]
    assert name == "token_divergence" or titles


@pytest.mark.parametrize("name", [figure.name for figure in FIGURES])
def test_quantities_on_axes_have_units(drawn, name):
    titles = [title for title in _titles(json.loads(drawn[name].chart.to_json())) if title]
    plain = {"optimizer step", "problems", "loss", "nats", "tokens"}
    assert all("(" in title or title in plain for title in titles)


@pytest.mark.parametrize("name", SOME_DRAWN)
def test_a_picture_has_every_row_and_title(drawn, name, tmp_path):
    (svg,) = save(drawn[name], tmp_path, ["svg"])
    root = ElementTree.parse(svg)  # noqa: S314
    shapes = [
        shape.get("d")
        for group in root.iter()
        if "role-mark" in group.get("class", "") and "mark-group" not in group.get("class", "")
        for shape in group.iter()
        if shape.get("d")
    ]
    # A point or a bar is a shape of its own, a line or a band is one shape for all its rows.
    corners = sum(len(re.findall("[MLAHVZ]", shape)) for shape in shapes)
    assert corners >= min(len(drawn[name].rows.rows), 100)
    texts = {node.text for node in root.iter() if node.tag.endswith("text")}
    titles = {title for title in _titles(json.loads(drawn[name].chart.to_json())) if title}
    assert titles <= texts


@pytest.mark.parametrize("name", SOME_IN_PIXELS)
def test_a_picture_of_pixels_is_not_blank(drawn, name, tmp_path):
    png, _ = save(drawn[name], tmp_path, ["png", "svg"])
    width, height, pixels = _pixels(png.read_bytes())
    assert width > 600
    assert height > 150
    assert len(set(pixels)) > 50
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.png", f"{name}.svg"]


@pytest.mark.slow
def test_an_html_figure_needs_no_network(drawn, tmp_path):
    (path,) = save(drawn["comparison"], tmp_path, ["html"])
    page = path.read_text()
    assert not re.search(r"""(src|href)=["']https?://""", page)


@pytest.mark.parametrize(
    "figure",
    [
        pytest.param(figure, marks=pytest.mark.slow if i % 3 else (), id=figure.name)
        for i, figure in enumerate(FIGURES)
    ],
)
def test_hostile_text_in_any_column_is_drawn_as_text(connection, figure, tmp_path):
    """A NUL byte that reaches the renderer aborts the whole process."""
    result = figure.query(connection)
    hostile = "<script>alert(1)</script>\x00\x1b[2J{{x}}\u202e" + "x" * 100_000
    kept = ("algorithm", "seed", "step", "quantity", "outcome", "change", "phase", "layer", "unit")
    rows = [
        tuple(
            hostile if isinstance(value, str) and name not in kept else value
            for name, value in zip(result.columns, row, strict=True)
        )
        for row in result.rows
    ]
    chart = getattr(charts, figure.chart)(Result(result.columns, rows))
    (path,) = save_chart(chart, "hostile", tmp_path, ["svg"])
    assert "<script" not in path.read_text()


def test_plots_writes_png_and_svg_for_the_runs_asked(recorded, tmp_path):
    arguments = ["plots", "--no-ingest", "--results", str(recorded / "results" / "results.duckdb")]
    arguments += ["--output-dir", str(tmp_path / "out"), "--figure", "pass_at_1"]
    result = CliRunner().invoke(main, [*arguments, "--run", "train-sdpo-42"])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "pass_at_1.png",
        "pass_at_1.svg",
    ]
    result = CliRunner().invoke(main, [*arguments, "--run", "no-such-run"])
    assert result.exit_code == 1
    assert "a run must be in the results, got 'no-such-run'" in result.stderr


@pytest.mark.slow
def test_a_run_of_one_step_and_one_group_can_be_drawn(tmp_path):
    """Intervals of a single value do not exist; the figure is drawn without them."""
    from analysis.warehouse.warehouse import ingest
    from benchmarks.synthetic import write_training_run

    write_training_run(tmp_path / "runs", "a", n_steps=1, eval_every=1, n_problems=1)
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        for figure in draw(connection, FIGURES):
            save(figure, tmp_path / "out", ["svg"])


def _svg_of(chart, tmp_path):
    (path,) = save_chart(chart, "chart", tmp_path, ["svg"])
    return ElementTree.parse(path).getroot()  # noqa: S314


def test_a_layer_that_allows_no_difference_keeps_the_audits_axis(tmp_path):
    """A log axis cannot hold the 0 that the teacher layer allows: nothing at all was drawn of it."""
    columns = ("run_id", "algorithm", "seed", "step", "layer", "delta", "threshold")
    rows = [
        ("a", "audit", 42, 1, "loss", 3e-8, 1e-6),
        ("a", "audit", 42, 1, "teacher", 0.0, 0.0),
        ("a", "audit", 42, 2, "teacher", 2.0, 0.0),
    ]
    root = _svg_of(charts.audit_deltas(Result(columns, rows)), tmp_path)
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert "0" in texts and "1e-6" in texts and "1e+0" in texts
    marks = json.dumps([node.attrib for node in root.iter()])
    assert "NaN" not in marks and "Infinity" not in marks
    places = {
        node.get("transform")
        for group in root.iter()
        if "mark-symbol role-mark" in group.get("class", "")
        for node in group
    }
    assert len(places) == 3
    spec = json.dumps(charts.audit_deltas(Result(columns, rows)).to_dict()["data"])
    assert spec.count("deviates") == 1 and spec.count("passes") == 2


def test_the_mean_of_the_seeds_is_drawn_only_where_all_of_them_have_an_evaluation(connection):
    """Else the line jumps to another set of seeds where one is missing."""
    rows = FIGURES[0].query(connection)
    run, step = (rows.columns.index(name) for name in ("run_id", "step"))
    kept = [row for row in rows.rows if (row[run], row[step]) != ("train-sdpo-43", 12)]
    assert len(kept) == len(rows.rows) - 1
    spec = charts.pass_at_1_over_steps(Result(rows.columns, kept)).to_dict()
    thick = spec["layer"][-1]
    assert thick["encoding"]["y"]["aggregate"] == "mean"
    drawn = {(row["run_id"], row["step"]) for row in thick["data"]["values"]}
    assert drawn == {
        (row[run], row[step]) for row in kept if (row[run], row[step]) != ("train-sdpo-42", 12)
    }


def test_seeds_of_an_algorithm_are_drawn_with_their_mean(connection):
    rows = FIGURES[0].query(connection)
    seeds = rows.columns.index("seed")
    first = rows.rows[0][seeds]
    single = Result(rows.columns, [row for row in rows.rows if row[seeds] == first])
    for result, drawn_mean in ((rows, True), (single, False)):
        spec = charts.pass_at_1_over_steps(result).to_dict()
        assert ('"aggregate": "mean"' in json.dumps(spec)) is drawn_mean
        assert ("thick: mean" in " ".join(spec["title"]["subtitle"])) is drawn_mean


def test_figures_of_several_settings_say_which_and_none_takes_anothers_name(recorded_copy):
    """Names that differ only behind what a file's name may hold."""
    long = "x" * 100
    with duckdb.connect(str(recorded_copy / "results" / "results.duckdb")) as changed:
        changed.execute(
            """UPDATE evals SET dataset = CASE run_id WHEN 'train-sdpo-42' THEN $long || 'a'
               WHEN 'train-sdpo-43' THEN $long || 'b' ELSE dataset END""",
            {"long": long},
        )
        drawn = draw(changed, [FIGURES[0]])
    assert [each.name.partition("-")[0] for each in drawn] == ["pass_at_1"] * 3
    assert len({each.name for each in drawn}) == 3
    said = [each.chart.title.subtitle[-1] for each in drawn]
    assert len(set(said)) == 3 and all(line.startswith("of these only: dataset ") for line in said)


MARKUP = "</script><img src=x onerror=\"document.title='owned'\"><!--"


@pytest.fixture
def owned(recorded_copy, tmp_path):
    """The pages of figures whose labels and tokens try to be markup."""
    with duckdb.connect(str(recorded_copy / "results" / "results.duckdb")) as changed:
        changed.execute("UPDATE runs SET label = $markup", {"markup": MARKUP})
        changed.execute("UPDATE token_stats SET token = $markup", {"markup": MARKUP})
        wanted = [f for f in FIGURES if f.name in ("comparison", "token_divergence")]
        drawn = draw(changed, wanted)
    assert len(drawn) >= 2
    return [path for each in drawn for path in save(each, tmp_path / "charts", ["html", "svg"])]


@pytest.mark.slow
def test_text_of_a_run_is_no_markup_in_a_page_of_a_figure(owned):
    for path in owned:
        text = path.read_text()
        assert "owned" in text, "it is shown"
        assert "<img src=x" not in text and "><!--" not in text


@pytest.mark.slow
def test_a_browser_draws_a_figure_of_markup_and_runs_none_of_it(owned, browser):
    for path in owned:
        if path.suffix == ".html":
            page = browser.new_page()
            page.goto(path.as_uri())
            page.wait_for_selector("canvas, svg")
            assert page.title() != "owned" and page.locator("img").count() == 0
            page.close()
