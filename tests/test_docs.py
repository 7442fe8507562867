"""What the README says of commands and files is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sdpo_bench import _COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("command", sorted(_COMMANDS))
def test_every_command_has_help_and_is_named_in_the_readme(command):
    assert re.search(rf"sdpo-bench {command}\b|make {command}\b", README), command
    found = subprocess.run(
        [sys.executable, "-m", "sdpo_bench", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Example" in found.stdout


def test_the_root_command_does_not_import_what_takes_seconds():
    program = (
        "import sys; from sdpo_bench import main; main(['--help'], standalone_mode=False); "
        "print([m for m in ('torch', 'transformers', 'docker', 'altair') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines()[-1] == "[]"


def test_every_path_in_the_readmes_tree_exists():
    tree = README.split("## The tree")[1].split("## Hardware")[0]
    for line in tree.splitlines():
        if not line.startswith("    "):
            continue
        names = re.findall(r"[\w/]+(?:\.py|/)(?=\s|$)", line.split("   ")[0] + " " + line.strip())
        for name in names:
            assert list(ROOT.rglob(name.rstrip("/"))), name


def test_every_link_of_the_docs_leads_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_lock_line_is_more_than_a_name_and_a_version():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.]+", line), line
