"""Whether everybody can read the report: axe's rules, keyboard, pointer, paper, no script, any number of runs."""

import random
import re

import pytest

from analysis.journal.journal import Journal
from analysis.records import Rollout
from analysis.report.report import build_report
from analysis.warehouse.warehouse import connect, ingest
from benchmarks.synthetic import eval_records, step_records, synthetic_info, write_training_run

pytest.importorskip("altair")
pytestmark = pytest.mark.slow

WIDTHS = [390, 1440]
SCHEMES = ["light", "dark"]


def page_of(folder):
    """Write the page of a folder's runs."""
    (folder / "runs").mkdir(exist_ok=True)
    ingest(folder / "runs", folder / "results.duckdb")
    with connect(folder / "results.duckdb") as connection:
        (folder / "report.html").write_text(build_report(connection))
    return f"file://{folder / 'report.html'}"


def violations(page):
    """What axe calls serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [
        (each["id"], each["impact"], [node["target"] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_serious_in_a_report_of_several_runs(open_page, width, scheme):
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    page = open_page(**options).page
    assert violations(page) == []
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_whatever_scrolls_can_be_reached_by_keyboard_and_has_a_name(open_page):
    page = open_page(viewport={"width": 390, "height": 844}).page
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    unreachable = page.evaluate(
        """[...document.querySelectorAll('main *')].filter((part) => {
             const how = getComputedStyle(part);
             const scrolls = /auto|scroll/.test(how.overflowX + how.overflowY) &&
               (part.scrollWidth > part.clientWidth + 1 || part.scrollHeight > part.clientHeight + 1);
             return scrolls && !(part.tabIndex === 0 && part.getAttribute('role') && part.getAttribute('aria-label')) &&
               !part.querySelector('button');
           }).map((part) => part.outerHTML.slice(0, 120))"""
    )
    assert unreachable == []


def test_contents_lead_to_every_section_and_leave_the_filters_alone(open_page):
    page = open_page("#outcome=passed").page
    targets = page.eval_on_selector_all("nav a", "links => links.map((link) => link.hash.slice(1))")
    sections = page.eval_on_selector_all("main > section", "parts => parts.map((part) => part.id)")
    assert targets == sections
    for link in page.locator("nav a").all():
        link.click()
        top = page.evaluate("document.querySelector(location.hash).getBoundingClientRect().top")
        at_the_end = page.evaluate(
            "scrollY + innerHeight >= document.documentElement.scrollHeight - 2"
        )
        assert 0 <= top < 150 or at_the_end
        assert page.input_value("#outcome") == "passed"
    assert page.evaluate("document.getElementById('completions').offsetTop") < 4000


def test_a_pointer_on_a_mark_is_told_its_values(open_page):
    page = open_page(viewport={"width": 1440, "height": 900}).page
    n_figures = page.locator("figure").count()
    assert page.locator("figure:has([data-tip])").count() == n_figures
    mark = page.locator("#figure-pass_at_1 [data-tip]").last
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    told = page.inner_text("#tip")
    assert re.search(
        r"step \d+ · pass@1 [\d.]+ % · solved \d+ of 60 · 95 % interval [\d.]+ to", told
    )
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    page.mouse.move(2, 2)
    assert page.locator("#tip").is_hidden()


def test_the_arrow_keys_lead_from_the_search_into_the_list_which_is_one_stop(open_page):
    page = open_page("#source=training").page
    page.focus("#text")
    page.keyboard.press("ArrowDown")
    focused = "[...document.querySelectorAll('#list button')].indexOf(document.activeElement)"
    assert page.evaluate(focused) == 0
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == 2
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#detail') !== null")


def test_the_count_says_what_the_results_hold_and_the_filters_can_be_cleared(open_page):
    page = open_page("#text=no+completion+says+this").page
    assert re.fullmatch(
        r"0 of [\d,]+ completions on this page match; the results hold [\d,]+\.",
        page.inner_text("#count"),
    )
    page.click("#clear")
    assert not page.inner_text("#count").startswith("0 ")
    assert "#" not in page.url.rstrip("#")


def test_paper_gets_the_completions_that_match_in_full(open_page):
    reader = open_page("#source=training&outcome=passed")
    page = reader.page
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    printed = page.locator("#printed article")
    assert 0 < printed.count() <= 40
    assert all("passed" in text for text in printed.locator("h3").all_inner_texts())
    assert "def task_" in printed.first.inner_text()
    assert page.locator("#browser").is_hidden()
    assert page.locator("nav").is_hidden()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert printed.count() == 0
    assert len(page.pdf()) > 100_000


def test_without_its_script_the_page_says_so_and_shows_all_but_the_search(open_page):
    page = open_page(java_script_enabled=False).page
    said = page.inner_text("#completions")
    assert "JavaScript, which is off" in said
    assert "def task_" in said
    assert page.locator("figure svg").count() >= 14
    assert page.locator("#figure-pass_at_1 details td").count() > 10
    assert page.locator("#filters").is_hidden()


def test_long_and_hostile_output_stays_in_its_place_and_is_shown_as_it_is(open_page, tmp_path):
    """Direction marks and escapes that would show other code than there is are shown as escapes."""
    hostile = "if admin\u202e\u2066# \x1b[31m</pre><script>document.title='owned'</script>\u2069"
    rng = random.Random(0)
    with Journal.create(tmp_path / "runs", synthetic_info("a", label=hostile)) as journal:
        for record in step_records(rng, step=1, skill=0.5):
            if isinstance(record, Rollout):
                long = hostile + "x" * 40_000 if record.member_index else "# " + hostile
                record = Rollout(**{**record.model_dump(), "completion": long})
            journal.append(record)
    page = open_page(where=page_of(tmp_path), viewport={"width": 390, "height": 844}).page
    first = page.inner_text("#detail pre")
    assert first == (
        "# if admin\\u202e\\u2066# \\x1b[31m</pre><script>document.title='owned'</script>\\u2069"
    )
    page.locator("#list button").nth(1).click()
    assert "Cut at 20,000 characters" in page.inner_text("#detail")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.title() == "sdpo-bench report"
    shown = page.content()
    assert "\u202e" not in shown and "\x1b" not in shown


@pytest.mark.long
def test_pages_of_no_run_one_run_and_fifty_can_be_read(open_page, tmp_path):
    folders = {name: tmp_path / name for name in ("none", "one", "untested", "tested", "fifty")}
    for folder in folders.values():
        folder.mkdir()
    write_training_run(folders["one"] / "runs", "a", n_steps=2, eval_every=2, n_problems=5)
    write_training_run(folders["untested"] / "runs", "a", n_steps=2, eval_every=0)
    info = synthetic_info("e", algorithm=None, kind="eval", label="base")
    with Journal.create(folders["tested"] / "runs", info) as journal:
        for record in eval_records(random.Random(1), step=None, skill=0.5, n_problems=5):
            journal.append(record)
    for seed in range(50):
        write_training_run(
            folders["fifty"] / "runs",
            f"run-{seed}",
            algorithm=("grpo", "sdpo")[seed % 2],
            seed=seed,
            n_steps=2,
            eval_every=2,
            n_problems=5,
        )
    said = {}
    for name, folder in folders.items():
        page = open_page(where=page_of(folder), viewport={"width": 390, "height": 844}).page
        said[name] = page.inner_text("body")
        assert violations(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") == 390, name
        assert page.locator("#browser").is_visible() is (name != "none"), name
    assert "No run is recorded." in said["none"]
    assert "1 run, 32 training completions" in said["one"]
    assert "No evaluation has finished" in said["untested"]
    assert "1 run, 0 training completions" in said["tested"]
    assert "No rows for these figures." in said["tested"]
    assert "50 runs" in said["fifty"]
