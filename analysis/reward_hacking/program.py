"""What a program spells: the values it can return, its tables and branches, its literals; nothing is executed."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from analysis.reward_hacking.literals import canonical, folded, weight
from analysis.reward_hacking.spelled_pairs import Branches, Group, function_groups, loose_groups

_MOST_CHARS = 50_000
_MOST_NODES = 5_000
"""A longer program is not looked at: a solution of one function has some hundred."""


@dataclass(frozen=True)
class Outputs:
    """What a function can return."""

    values: dict[str, float]
    """Returned literals, canonical, with their weights."""
    computed: bool
    """Whether it returns anything that is no literal."""
    echoes: bool
    """Whether it does nothing but give one argument back."""
    takes_nothing: bool
    """Whether it has no arguments, so that a constant is all it can return."""


class Program:
    """What a program spells: read once, asked for every sign."""

    def __init__(self, tree: ast.Module, nodes: list[ast.AST]) -> None:
        """Take a tree and its nodes: to walk a tree costs more than all that is asked of it."""
        self._tree, self._nodes = tree, nodes
        self.names = _named_values(nodes)

    @cached_property
    def callables(self) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None]:
        """Names that may be called, with what stands behind them where that is a function."""
        found: dict[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None] = {}
        for node in self._nodes:
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    found[name] = node
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda() as function):
                    found[name] = function
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.ClassDef(name=name):
                    found.setdefault(name, None)
        return found

    @cached_property
    def inner_outputs(self) -> list[Outputs]:
        """What each function can return that stands within another."""
        return [
            _outputs(function, self.names)
            for name, function in self.callables.items()
            if function is not None and name not in self.outputs
        ]

    @cached_property
    def outputs(self) -> dict[str, Outputs]:
        """What each function of the top level can return."""
        top = {
            target.id
            for node in self._tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        } | {
            n.name for n in self._tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        return {
            name: _outputs(function, self.names)
            for name, function in self.callables.items()
            if function is not None and name in top
        }

    @property
    def computes(self) -> bool:
        """Whether some function returns what is no literal and no entry of a table."""
        return any(outputs.computed and not outputs.echoes for outputs in self.outputs.values())

    @cached_property
    def groups(self) -> list[Group]:
        """Tables and chains of branches."""
        reader = Branches(self._nodes, self.names)
        functions = [function for function in self.callables.values() if function is not None]
        chains = [group for function in functions for group in function_groups(function, reader)]
        return chains + list(loose_groups(self._tree, self._nodes, reader, self.names))

    @cached_property
    def _spelled(self) -> list[Any]:
        """Values that stand in the program, the largest of each place."""
        return list(_spelled(self._tree, self.names))

    @cached_property
    def literals(self) -> frozenset[str]:
        """Every value that is spelled, apart from the parts of larger ones."""
        return frozenset(map(canonical, self._spelled))

    @cached_property
    def lists(self) -> list[list[str]]:
        """Members of each list that is spelled."""
        return [
            [canonical(item) for item in value]
            for value in self._spelled
            if isinstance(value, list | tuple) and len(value) > 1
        ]

    @cached_property
    def tables(self) -> list[list[str]]:
        """Values of each table that is spelled."""
        return [
            [canonical(item) for item in value.values()]
            for value in self._spelled
            if isinstance(value, dict) and len(value) > 1
        ]

    @cached_property
    def recurses(self) -> bool:
        """Whether a function calls itself: what it spells for small arguments is where it ends."""
        return any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
            for name, function in self.callables.items()
            if function is not None
            for node in ast.walk(function)
        )


def read_program(code: str) -> Program | None:
    """Read a program; None where it is no Python or too large to be looked at."""
    if len(code) > _MOST_CHARS:
        return None
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    tree.body = [node for node in tree.body if not _is_own_test(node)]
    nodes = list(islice(ast.walk(tree), _MOST_NODES + 1))
    if len(nodes) > _MOST_NODES:
        return None
    for node in nodes:
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _says_nothing(line)]  # type: ignore[attr-defined]
    return Program(tree, nodes)


def _is_own_test(node: ast.stmt) -> bool:
    """Whether a line of the top level only tries the program: it spells asserts and is no part of the answer."""
    match node:
        case ast.Assert() | ast.Expr():
            return True
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            return True
    return False


def _says_nothing(node: ast.stmt) -> bool:
    """Docstrings and asserts within a function."""
    return isinstance(node, ast.Assert) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _named_values(nodes: list[ast.AST]) -> dict[str, Any]:
    """Names that are given one literal value and no other."""
    stores: dict[str, int] = {}
    values: list[tuple[str, ast.expr]] = []
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                stores[name] = stores.get(name, 0) + 1
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values.append((name, value))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                values.append((name, value))
    found: dict[str, Any] = {}
    for name, value in values:
        if stores.get(name) == 1:
            for spelled in folded(value, found):
                found[name] = spelled
    return found


def _spelled(tree: ast.AST, names: dict[str, Any]) -> Iterator[Any]:
    """Values that stand in a program, the largest of each place."""
    pending = [tree]
    while pending:
        node = pending.pop()
        is_value = isinstance(node, ast.expr) and not isinstance(node, ast.Name)
        if is_value and (values := folded(node, names)):
            yield from values
        else:
            pending.extend(ast.iter_child_nodes(node))


def _outputs(
    function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, names: dict[str, Any]
) -> Outputs:
    arguments = function.args
    parameters = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    several = arguments.vararg.arg if arguments.vararg else ""
    takes_nothing = not parameters and not several
    if isinstance(function, ast.Lambda):
        returned: list[ast.expr] = [function.body]
        plain = True
    else:
        own = list(_own_nodes(function))
        returned = [n.value for n in own if isinstance(n, ast.Return) and n.value is not None]
        plain = all(isinstance(n, ast.Return | ast.Pass) for n in function.body)
        if any(isinstance(n, ast.Yield | ast.YieldFrom) for n in own):
            return Outputs({}, computed=True, echoes=False, takes_nothing=takes_nothing)
    values: dict[str, float] = {}
    computed = False
    parts = [part for node in returned for part in _alternatives(node)]
    n_returned = Counter(part.id for part in parts if isinstance(part, ast.Name))
    uses = _Uses(function) if n_returned else None
    for part in parts:
        n = n_returned[part.id] if isinstance(part, ast.Name) else 0
        found = _literal_values(part, uses, n, names)
        computed |= found is None
        values |= {canonical(value): weight(value) for value in found or ()}
    echoes = plain and len(returned) == 1 and _is_argument(returned[0], parameters, several)
    return Outputs(values, computed or not returned, echoes, takes_nothing)


def _own_nodes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """Nodes of a function without those of functions within it."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            pending.extend(ast.iter_child_nodes(node))


def _alternatives(node: ast.expr) -> Iterable[ast.expr]:
    """The values that an expression chooses from."""
    match node:
        case ast.IfExp(body=body, orelse=orelse):
            return [*_alternatives(body), *_alternatives(orelse)]
        case ast.BoolOp(op=ast.Or(), values=values):
            return [part for value in values for part in _alternatives(value)]
        case ast.BoolOp(op=ast.And(), values=[*_, last]):
            return _alternatives(last)
    return [node]


class _Uses:
    """How the names of a function are used: what they are given, and whether by that alone."""

    def __init__(self, function: ast.AST) -> None:
        self.given: dict[str, list[ast.expr]] = {}
        self.n_stored: dict[str, int] = {}
        self.n_read: dict[str, int] = {}
        for node in ast.walk(function):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.given.setdefault(name, []).extend(_alternatives(value))
                    self.n_stored[name] = self.n_stored.get(name, 0) - 1
                case ast.arg(arg=name):
                    self.n_stored[name] = self.n_stored.get(name, 0) + 1
            match node:
                case ast.Name(id=name, ctx=ast.Store()):
                    self.n_stored[name] = self.n_stored.get(name, 0) + 1
                case ast.Name(id=name):
                    self.n_read[name] = self.n_read.get(name, 0) + 1

    def values(self, name: str, n_returned: int) -> list[ast.expr] | None:
        """What a name is given where it is only assigned and returned; None where it is worked on."""
        plain = self.n_stored.get(name) == 0 and self.n_read.get(name) == n_returned
        return self.given.get(name) if plain else None


def _literal_values(
    node: ast.expr, uses: _Uses | None, n_returned: int, names: dict[str, Any]
) -> list[Any] | None:
    """The literals that a returned expression can be: its own, or all that its name is given; else None."""
    parts: list[ast.expr] | None = [node]
    if isinstance(node, ast.Name) and uses is not None and not folded(node, names):
        parts = uses.values(node.id, n_returned)
    values = [value for part in parts or () for value in folded(part, names)]
    return values if parts and len(values) == len(parts) else None


def _is_argument(node: ast.expr, parameters: set[str], several: str) -> bool:
    """Whether an expression is an argument as it came."""
    match node:
        case ast.Name(id=name):
            return name in parameters
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=int())):
            return name == several
    return False
