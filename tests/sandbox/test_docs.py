import ast
import re
from pathlib import Path

from sandbox import attack
from sandbox.cli import sandbox

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/sandbox.md").read_text()


def _tests():
    for folder in ("sandbox", "contract", "differential"):
        for file in (ROOT / "tests" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.FunctionDef):
                    yield node.name


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE)) - {"test_imports"}
    assert len(named) > 30 and named <= set(_tests())


def test_every_attack_that_the_page_names_exists():
    names = {a.name for a in attack.load(ROOT / "tests/attacks")}
    for name in re.findall(r"`((?:forge|value|exhaust|escape|source)_[\w*]+)`", PAGE):
        assert name in names or any(n.startswith(name.rstrip("*")) for n in names), name


def test_every_guarantee_names_a_test():
    table = PAGE.split("| guarantee | test |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) > 20
    assert all("`test_" in row or "attacks `" in row for row in table)


def test_every_command_is_on_the_page():
    assert all(f"sandbox {name}" in PAGE for name in sandbox.commands)
