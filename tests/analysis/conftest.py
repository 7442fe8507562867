"""A small results folder that looks real, made once a session; tests that write copy it. Its page in a browser."""

import random
import shutil

import duckdb
import pytest

from analysis.journal.journal import Journal
from analysis.warehouse.tables import schema_sql
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import eval_records, gap_records, synthetic_info, write_training_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@pytest.fixture(scope="session", autouse=True)
def copied_schema(tmp_path_factory):
    """Build results files by copying an empty one: an eighth of the time of making every table, view and comment.

    `recorded` is built as it is outside of tests.
    """
    empty = tmp_path_factory.mktemp("schema") / "empty.duckdb"
    lines = schema_sql().splitlines()
    with duckdb.connect(str(empty)) as made:
        # the comments of columns are half of what a copy takes
        made.execute("\n".join(line for line in lines if not line.startswith("COMMENT ON COLUMN")))
    copy = (
        f"ATTACH IF NOT EXISTS '{empty}' AS empty (READ_ONLY); COPY FROM DATABASE empty TO results"
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("analysis.warehouse.warehouse.schema_sql", lambda: copy)
        yield


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """Folder with runs/ (grpo, sdpo, audit, two evaluations) and results/results.duckdb."""
    folder = tmp_path_factory.mktemp("recorded")
    runs = folder / "runs"
    for algorithm, seed, gain in (("sdpo", 42, 0.14), ("grpo", 42, 0.08), ("sdpo", 43, 0.14)):
        write_training_run(
            runs,
            f"train-{algorithm}-{seed}",
            algorithm=algorithm,
            seed=seed,
            gain=gain,
            n_steps=12,
            eval_every=6,
            n_problems=60,
        )
    write_training_run(runs, "train-audit-42", algorithm="audit", n_steps=6, eval_every=0)
    for label, parent, n_samples in (("base", None, 1), ("sampled", "train-sdpo-42", 4)):
        info = synthetic_info(
            f"eval-{label}", algorithm=None, kind="eval", label=label, parent_run_id=parent
        )
        with Journal.create(runs, info) as journal:
            rng = random.Random(label)
            for record in eval_records(
                rng, step=None, skill=0.45, n_problems=60, n_samples=n_samples
            ):
                journal.append(record)
    info = synthetic_info("eval-gap", algorithm=None, kind="eval", label="gap")
    with Journal.create(runs, info) as journal:
        for record in gap_records(random.Random("gap"), n_problems=60):
            journal.append(record)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("analysis.warehouse.warehouse.schema_sql", schema_sql)
        ingest(runs, folder / "results" / "results.duckdb")
    return folder


@pytest.fixture
def recorded_copy(recorded, tmp_path):
    """A copy of `recorded` that a test may change."""
    return shutil.copytree(recorded, tmp_path / "recorded")


@pytest.fixture(scope="session")
def browser():
    """Debian's chromium without a window, through Playwright."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield opened
        opened.close()


class Reader:
    """A page with everything that it asked for and that its console said."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.console, self.requests = [], []
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        if options.get("java_script_enabled", True):
            self.page.wait_for_function(
                "document.getElementById('count').textContent.includes('completions')"
            )

    @property
    def asks_only_its_own(self):
        """A page from disk asks nobody, one that is served only its own server."""
        local = ("file://", "data:", "blob:")
        elsewhere = {url for url in self.requests if not url.startswith(local)}
        own = self.page.url.split("#")[0]
        return not elsewhere or (own.startswith("http://127.0.0.1:") and elsewhere == {own})


@pytest.fixture(scope="session")
def page(recorded):
    """The report of the recorded runs."""
    pytest.importorskip("altair")
    from analysis.report.report import build_report

    with connect(recorded / "results" / "results.duckdb") as connection:
        return build_report(connection)


@pytest.fixture(scope="session")
def drawn(recorded):
    """Every figure of the recorded runs, by name."""
    pytest.importorskip("altair")
    from analysis.report.figures import FIGURES, draw

    with connect(recorded / "results" / "results.duckdb") as connection:
        return {figure.name: figure for figure in draw(connection, FIGURES)}


@pytest.fixture(scope="session")
def address(page, tmp_path_factory):
    """Where the page of the recorded runs lies."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page)
    return f"file://{path}"


@pytest.fixture
def open_page(browser, request):
    """Open a page, the recorded runs' one if none is named; at the end its console must be empty."""
    readers = []

    def opened(fragment="", where=None, **options):
        where = where or request.getfixturevalue("address")
        readers.append(Reader(browser, where + fragment, **options))
        return readers[-1]

    yield opened
    for reader in readers:
        assert reader.console == []
        assert reader.asks_only_its_own
        reader.context.close()


@pytest.fixture(scope="session")
def warehouse():
    """A warehouse without rows."""
    with duckdb.connect() as made:
        made.execute(schema_sql())
        yield made


@pytest.fixture
def connection(warehouse):
    """An empty warehouse; what a test puts into it is taken back."""
    warehouse.begin()
    yield warehouse
    warehouse.rollback()
