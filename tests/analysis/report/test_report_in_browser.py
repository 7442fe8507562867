"""The report as a reader has it: Debian's chromium without a window, through Playwright."""

import random
import re
import threading

import pytest

from analysis.journal.journal import Journal
from analysis.records import Rollout
from analysis.report.report import build_report
from analysis.report.watch import LivePage, make_server
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import eval_records, step_records, synthetic_info

pytest.importorskip("altair")
playwright = pytest.importorskip("playwright.sync_api")

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\n{{data}}"
pytestmark = pytest.mark.slow


def counted(page):
    """How many match, of how many on the page."""
    said = page.inner_text("#count").replace(",", "")
    return tuple(map(int, re.findall(r"\d+", said)))[:2]


def test_filters_narrow_the_list_and_stand_in_the_address(open_page, recorded):
    page = open_page().page
    n_shown, n_all = counted(page)
    assert n_shown == n_all
    page.select_option("#source", "training")
    page.select_option("#step", "3")
    page.select_option("#outcome", "wrong_answer")
    with connect(recorded / "results" / "results.duckdb") as connection:
        (expected,) = connection.execute(
            "SELECT count(*) FROM rollouts WHERE step = 3 AND outcome = 'wrong_answer'"
        ).fetchall()[0]
    assert counted(page) == (expected, n_all)
    assert page.locator("#list li").count() == expected
    again = open_page("#" + page.url.split("#")[1]).page
    assert counted(again) == (expected, n_all)
    assert again.input_value("#outcome") == "wrong_answer"
    page.fill("#text", "no completion says this")
    assert counted(page) == (0, n_all)
    assert page.inner_text("#detail") == ""


def test_a_chosen_completion_is_shown_with_its_asserts_and_code_in_colour(open_page):
    page = open_page("#source=training&outcome=wrong_answer").page
    detail = page.locator("#detail")
    assert "Asserts: " in detail.inner_text()
    assert "Feedback" in detail.inner_text()
    assert detail.locator("pre .word").first.inner_text() == "def"
    colours = page.evaluate(
        "[...document.querySelectorAll('#detail pre .word, #detail pre')]"
        ".map((part) => getComputedStyle(part).color)"
    )
    assert len(set(colours)) > 1


def test_everything_can_be_done_with_the_keyboard(open_page):
    page = open_page().page
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type("return")
    page.locator("#list button").first.focus()
    first = page.inner_text("#detail p")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    assert page.locator("#list button[aria-current=true]").count() == 1
    assert (
        page.evaluate(
            "[...document.querySelectorAll('#list button')].indexOf(document.activeElement)"
        )
        == 2
    )
    assert page.inner_text("#detail p") != first
    page.keyboard.press("Home")
    assert page.inner_text("#detail p") == first


def test_every_control_and_figure_has_a_name(open_page):
    page = open_page().page
    nameless = page.evaluate(
        """[...document.querySelectorAll('select, input, button, [role=img], [role=region], article, ul')]
           .filter((part) => !(part.getAttribute('aria-label') || part.alt || part.textContent.trim() ||
                               part.closest('label')?.textContent.trim()))
           .map((part) => part.outerHTML.slice(0, 200))"""
    )
    assert nameless == []
    assert page.locator("figure svg").count() >= 14
    widths = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map((each) => each.getBoundingClientRect().width)"
    )
    assert min(widths) > 300


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window_and_its_text_can_be_read(open_page, width, scheme):
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    page = open_page(**options).page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # WCAG AA: 4.5 to 1 for text against what is behind it.
    ratios = page.evaluate(
        """() => {
          const light = (colour) => {
            const parts = colour.match(/[\\d.]+/g).map(Number);
            const [r, g, b] = parts.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const behind = (part) => {
            for (; part; part = part.parentElement) {
              const colour = getComputedStyle(part).backgroundColor;
              if (!colour.endsWith(', 0)') && colour !== 'transparent') return colour;
            }
          };
          return ['#verdict', '#about', 'th', 'td', '#count', 'label', '.passed', '.failed', 'pre', 'pre .word',
                  'pre .number', '#list small'].map((selector) => {
            const part = document.querySelector(selector);
            const [a, b] = [light(getComputedStyle(part).color), light(behind(part))].sort((x, y) => y - x);
            return [selector, (a + 0.05) / (b + 0.05)];
          });
        }"""
    )
    assert [entry for entry in ratios if entry[1] < 4.5] == []


def test_hostile_text_is_shown_as_text(open_page, tmp_path):
    rng = random.Random(0)
    with Journal.create(tmp_path / "runs", synthetic_info("a", label=HOSTILE)) as journal:
        for record in step_records(rng, step=1, skill=0.5):
            if isinstance(record, Rollout):
                texts = dict.fromkeys(
                    ("prompt", "completion", "teacher_prompt", "feedback", "outcome"), HOSTILE
                )
                record = Rollout(**{**record.model_dump(), **texts})
            journal.append(record)
        for record in eval_records(rng, step=1, skill=0.5, n_problems=5):
            journal.append(record)
    ingest(tmp_path / "runs", tmp_path / "results.duckdb")
    with connect(tmp_path / "results.duckdb") as connection:
        (tmp_path / "report.html").write_text(build_report(connection))
    page = open_page(where=f"file://{tmp_path / 'report.html'}").page
    page.select_option("#source", "training")
    page.wait_for_timeout(200)
    assert page.title() == "sdpo-bench report"
    assert page.locator("#detail pre").first.inner_text() == HOSTILE
    assert page.locator("img[src=x]").count() == 0


def test_an_open_page_follows_a_run_and_keeps_the_readers_place(open_page, recorded_copy):
    runs = recorded_copy / "runs"
    results = recorded_copy / "results" / "results.duckdb"

    def build():
        ingest(runs, results)
        with connect(results) as connection:
            return build_report(connection, ["live"], refresh_s=1)

    def add_step(journal, step):
        for record in step_records(random.Random(step), step=step, skill=0.5):
            journal.append(record)
        journal.commit()

    with Journal.create(runs, synthetic_info("live")) as journal:
        add_step(journal, 1)
        # A clock that stands still lets every question be answered at once.
        with make_server(LivePage(runs, build, clock=lambda: 0.0), 0) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            where = f"http://127.0.0.1:{server.server_address[1]}/"
            page = open_page(where=where).page
            assert counted(page) == (16, 16)
            page.locator("#list button").nth(5).click()
            chosen = page.inner_text("#detail p")
            add_step(journal, 2)
            playwright.expect(page.locator("#count")).to_contain_text("32 of 32", timeout=20_000)
            assert page.inner_text("#detail p") == chosen
            playwright.expect(page.locator("#live")).to_contain_text("Up to date at")
            assert "32 training completions" in page.inner_text("#about")
            focused = (
                "[...document.querySelectorAll('#list button')].indexOf(document.activeElement)"
            )
            assert page.evaluate(focused) == 5
            server.shutdown()
