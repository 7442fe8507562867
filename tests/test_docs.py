"""What the README says of commands and files is true."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sdpo_bench import _COMMANDS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
INDEX = (ROOT / "docs" / "index.md").read_text()
PACKAGES = ("analysis", "evaluator", "sandbox", "trainer")


@pytest.mark.parametrize("command", sorted(_COMMANDS))
def test_every_command_has_help_and_is_named_in_the_readme(command):
    assert re.search(rf"sdpo-bench {command}\b|make {command}\b", README), command
    found = CliRunner().invoke(main, [command, "--help"])
    assert found.exit_code == 0
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


def test_the_picture_of_the_packages_is_that_of_the_imports():
    drawn = dict(re.findall(r"^    (\w+) +-> (.+)$", INDEX, re.M))
    assert set(drawn) == set(PACKAGES)
    for package, arrows in drawn.items():
        found = set()
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
                found |= {name.split(".")[0] for name in names} & set(PACKAGES) - {package}
        assert found == set(arrows.split(", ")) & set(PACKAGES), package


def test_every_file_that_the_start_page_names_is_there():
    named = re.findall(r"`((?:\w+/)+\w*(?:\.py)?|\w+\.py)`", INDEX)
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists(), name


def test_every_link_of_the_docs_leads_somewhere():
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _commands(text):
    """Command lines of code blocks and of inline code, continuation lines joined."""
    text = text.replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    inline = [part for part in re.findall(r"`([^`]+)`", text) if "\n" not in part]
    fenced = [
        line.strip()
        for block in re.findall(r"```\w*\n(.*?)```", text, re.S)
        for line in block.splitlines()
    ]
    for line in (*lines, *inline, *fenced):
        if line.startswith(("sdpo-bench ", "make ", "python -m ", "python scripts/")):
            yield line.split("#")[0].strip()


def _documented():
    return [(page.name, line) for page in PAGES for line in _commands(page.read_text())]


def test_every_make_target_that_the_docs_name_is_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page, line in _documented():
        if line.startswith("make "):
            rest = re.sub(r'\w+=("[^"]*"|\S*)', "", line)
            named = {word for word in rest.split()[1:] if re.fullmatch(r"[a-z-]+", word)}
            assert named <= targets, f"{page}: {line}"


def test_every_option_that_the_docs_name_is_one_of_its_command():
    import shlex

    import click

    from sdpo_bench import main

    n = 0
    for page, line in _documented():
        if not line.startswith("sdpo-bench "):
            continue
        words = line.replace("...", "").replace("|", " ").split()[1:]
        command, context = main, click.Context(main)
        while words and isinstance(command, click.Group):
            if re.fullmatch(r"[a-z-]+", words[0]) is None:
                break
            found = command.get_command(context, words[0])
            assert found is not None, f"{page}: {line}"
            command, words = found, words[1:]
        known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        if command.context_settings.get("ignore_unknown_options"):
            known |= _training_options()
        quoted = line.count('"') % 2 == 0
        words = shlex.split(line)[1:] if quoted else words
        for word in words:
            if re.fullmatch(r"--[a-z][\w-]*(=.*)?", word):
                n += 1
                assert word.split("=")[0] in known | {"--help"}, f"{page}: {line}: {word}"
    assert n > 40


def _training_options():
    from dataclasses import fields

    from trl import GRPOConfig, ModelConfig

    from trainer.options.config import BenchConfig

    return {f"--{f.name}" for kind in (BenchConfig, GRPOConfig, ModelConfig) for f in fields(kind)}


def test_every_page_is_in_the_sites_menu():
    import yaml

    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    pages = set()
    for entry in menu:
        for target in entry.values():
            pages |= (
                {target} if isinstance(target, str) else {p for e in target for p in e.values()}
            )
    docs = ROOT / "docs"
    assert pages == {p.relative_to(docs).as_posix() for p in docs.rglob("*.md")}


def test_no_lock_line_is_more_than_a_name_and_a_version():
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.]+", line), line
