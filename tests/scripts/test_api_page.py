"""docs/api.md says what the packages' docstrings say."""

from scripts import api_page


def test_the_api_page_is_that_of_the_docstrings():
    assert api_page.PAGE.read_text() == api_page.page(), "run `python scripts/api_page.py`"


def test_every_public_name_says_what_it_is():
    for line in api_page.page().splitlines():
        assert not line.endswith("`: "), line


def test_every_package_lists_public_names():
    page = api_page.page()
    for package in api_page.PACKAGES:
        assert f"- `{package}." in page.split(f"## {package}\n")[1].split("\n##")[0], package
