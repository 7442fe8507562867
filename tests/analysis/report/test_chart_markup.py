import re

import pytest

pytest.importorskip("altair")

from analysis.report.chart_markup import figure, inline
from analysis.report.figures import FIGURES


@pytest.fixture(scope="module")
def figures(drawn):
    return {name: figure(each) for name, each in drawn.items()}


def test_only_what_draws_comes_through():
    svg = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"
               onload="alert(1)" viewBox="0 0 9 9" width="9"><script>alert(1)</script><style>*{}</style>
               <a xlink:href="javascript:alert(1)"><text>x</text></a><image href="http://x/"/><foreignObject/>
               <g clip-path="url(#clip1)" onclick="alert(1)" style="color:red"><text>a &lt;b&gt;</text></g>
               <g><rect fill="url(http://x/)"/></g><path d="M0.123456,1" display="none"/></svg>"""
    found = inline(svg, lead="f")
    assert re.sub(r">\s+<", "><", found).strip() == (
        '<svg aria-hidden="true" viewBox="0 0 9 9"><g clip-path="url(#f-clip1)"><text>a &lt;b&gt;</text></g>'
        '<g><rect fill="none"></rect></g></svg>'
    )


@pytest.mark.parametrize("name", [each.name for each in FIGURES])
def test_every_figure_has_a_heading_a_name_its_values_and_marks_that_say_theirs(figures, name):
    markup = figures[name]
    assert re.search(r"<h3>[^<]+</h3><p", markup)
    assert re.search(r'class="scroll" tabindex="0" role="img" aria-label="[^"]{20,}"', markup)
    tips = re.findall(r'data-tip="([^"]+)"', markup)
    assert tips
    assert all(" · " in tip and "undefined" not in tip and "null" not in tip for tip in tips)
    assert len(re.findall("<tr>", markup)) > 1
    assert not re.search(r"<title|<script|\son\w+=|href", markup)


def test_figures_of_one_page_share_no_id(figures):
    ids = [found for markup in figures.values() for found in re.findall(r'\sid="([^"]*)"', markup)]
    assert len(ids) == len(set(ids)) > len(figures)
    used = {
        found for markup in figures.values() for found in re.findall(r"url\(#([^)]*)\)", markup)
    }
    assert used <= set(ids)


def test_a_long_table_of_values_says_where_the_rest_is(figures):
    assert figures["sandbox_latency"].count("<tr>") == 101
    assert "The first 100 of" in figures["sandbox_latency"]
    assert "--figure sandbox_latency --form json" in figures["sandbox_latency"]
