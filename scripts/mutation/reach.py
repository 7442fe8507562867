"""Notes which blocks of code each test runs, so that a mutant meets only the tests that can see it."""

from __future__ import annotations

import ast
import importlib.machinery
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MARK = "__mutation_block__"
Block = tuple[str, int]
"""Path from the root, and the line of the block's first statement."""


def blocks(source: str) -> list[tuple[int, int]]:
    """First line and last line of every block of statements in functions; an inner one after the outer."""
    found = []
    for body in _bodies(ast.parse(source)):
        found.append((body[0].lineno, max(s.end_lineno or s.lineno for s in body)))
    return sorted(found, key=lambda span: (span[0], -span[1]))


def block_of(source: str, line: int) -> int | None:
    """First line of the innermost block around a line; None where it runs on import."""
    around = [(last - first, first) for first, last in blocks(source) if first <= line <= last]
    if around:
        return min(around)[1]
    return None


def _bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    inside: list[ast.AST] = [
        n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    seen: set[int] = set()
    for function in inside:
        for node in ast.walk(function):
            for name in ("body", "orelse", "finalbody"):
                body = getattr(node, name, None)
                if isinstance(body, list) and body and id(body) not in seen:
                    seen.add(id(body))
                    yield body


def marked(source: str, path: str) -> ast.Module:
    """The file's tree with a mark at the beginning of each block."""
    tree = ast.parse(source)
    for body in list(_bodies(tree)):
        first = body[0]
        mark = ast.parse(f"{MARK}.add(({path!r}, {first.lineno}))").body[0]
        for node in ast.walk(mark):
            ast.copy_location(node, first)
        is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        body.insert(1 if is_docstring else 0, mark)
    return tree


def watch(root: Path, packages: tuple[str, ...]) -> set[Block]:
    """Mark every module of the packages that is imported from now on; return the set of blocks that ran."""
    import builtins

    ran: set[Block] = set()
    setattr(builtins, MARK, ran)
    plain = importlib.machinery.SourceFileLoader.source_to_code

    def source_to_code(self: Any, data: Any, path: Any, **options: Any) -> Any:  # noqa: ANN401
        try:
            relative = Path(path).relative_to(root)
        except (TypeError, ValueError):
            return plain(self, data, path, **options)
        if relative.parts[0] not in packages:
            return plain(self, data, path, **options)
        tree = marked(bytes(data).decode("utf-8"), str(relative))
        return compile(tree, path, "exec", dont_inherit=True)

    importlib.machinery.SourceFileLoader.source_to_code = source_to_code  # type: ignore[method-assign]
    return ran


class Recorder:
    """A plugin of pytest: processor seconds, outcome and blocks of each test."""

    def __init__(self, ran: set[Block]) -> None:
        """Read what ran from `ran`."""
        self._ran = ran
        self._of_fixtures: dict[tuple[str, str], set[Block]] = {}
        self.tests: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:  # noqa: ANN401
        """What a fixture runs belongs to every test that uses it, not to the first alone."""
        before = set(self._ran)
        self._ran.clear()
        yield
        self._of_fixtures[fixturedef.argname, fixturedef.baseid] = set(self._ran)
        self._ran |= before

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> Iterator[None]:  # noqa: ANN401
        """One test."""
        self._ran.clear()
        began = time.process_time()  # other work on the machine is none of the test's
        yield
        ran = set(self._ran)
        for name in item.fixturenames:
            for (argname, baseid), blocks_run in self._of_fixtures.items():
                if argname == name and item.nodeid.startswith(baseid):
                    ran |= blocks_run
        test = self.tests.setdefault(item.nodeid, {"outcome": "passed"})
        test["seconds"] = time.process_time() - began
        test["blocks"] = sorted(ran)

    def pytest_runtest_logreport(self, report: Any) -> None:  # noqa: ANN401
        """How the test ended."""
        if not report.passed:
            self.tests.setdefault(report.nodeid, {})["outcome"] = report.outcome
