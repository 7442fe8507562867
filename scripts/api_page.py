"""Writes docs/api.md: the public names of each package, with the first paragraph of their docstrings.

A package or folder lists its public names in its `__init__.py`, after `Public:`. Sources are read, never imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
PACKAGES = ("sandbox", "analysis", "evaluator", "trainer")
HEAD = """# API

The public names of each package, with the first paragraph of their docstrings. `make docs` writes this page.
Import a name from its module: `from evaluator.grading.grade import grade`.
"""


def page() -> str:
    """Return the page as Markdown.

    Raises:
        LookupError: a public name is not in the module that is named for it.
    """
    parts = [HEAD]
    for package in PACKAGES:
        for folder in sorted({p.parent for p in (ROOT / package).rglob("__init__.py")}):
            text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
            described, _, listed = text.partition("Public: ")
            if not listed:
                continue
            name = ".".join(folder.relative_to(ROOT).parts)
            parts.append(
                f"{'##' if folder.parent == ROOT else '###'} {name}\n\n{described.strip()}\n"
            )
            parts.append("\n".join(_lines(folder, listed)) + "\n")
    return "\n".join(parts)


def _lines(folder: Path, listed: str) -> Iterator[str]:
    """One line of a list for each name; `module.a, b` names two of one module."""
    for group in re.findall(r"`([^`]+)`", listed.split("\n\n")[0]):
        first, *others = [name.strip() for name in group.replace("\n", " ").split(",")]
        module, _, name = first.rpartition(".")
        for each in (name, *others):
            file = folder / (module or each).replace(".", "/")
            file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
            path = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            summary = _summary(file, each if module else None)
            yield f"- `{path}{'.' + each if module else ''}`: {summary}"


def _summary(file: Path, name: str | None) -> str:
    """First paragraph of the docstring of a module, or of a name in it, on one line."""
    tree = ast.parse(file.read_text())
    if name is None:
        return _one_line(ast.get_docstring(tree))
    for node, below in zip(tree.body, [*tree.body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return _one_line(ast.get_docstring(node))
        targets = getattr(node, "targets", [getattr(node, "target", getattr(node, "name", None))])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            match below:
                case ast.Expr(ast.Constant(str() as text)):
                    return _one_line(text)
            return "a constant"
    raise LookupError(f"{file} must define its public names, got no {name}; mend the list")


def _one_line(docstring: str | None) -> str:
    return " ".join((docstring or "").split("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(page())
