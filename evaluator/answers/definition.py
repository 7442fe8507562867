"""Reads from a syntax tree what a program defines and which names it lacks; runs nothing."""

from __future__ import annotations

import ast
import builtins
import enum
import re
import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache

from sandbox import syntax

MAX_CODE_CHARS = 64_000
"""A longer program is refused: MBPP answers have hundreds, and parsing must stay cheap."""

_BUILTINS = frozenset(dir(builtins)) | {"__file__", "__name__", "__doc__", "__builtins__"}
_DATA = frozenset(
    "abs all any ascii bin bool bytearray bytes chr complex dict divmod enumerate filter float format"
    " frozenset hash hex id input int isinstance len list map max min next oct open ord pow print range"
    " repr reversed round set slice sorted str sum tuple zip".split()
)
"""Builtins that return no function."""

_DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_IMPORTS = ast.Import | ast.ImportFrom
_BINDS = (
    _DEFINITIONS | _IMPORTS | ast.arg | ast.ExceptHandler | ast.MatchAs | ast.MatchStar | ast.MatchMapping
)  # fmt: skip
_STEPS = (
    ast.Assign | ast.AugAssign | ast.AnnAssign | ast.If | ast.While | ast.For | ast.Match | ast.Try | ast.Break
    | ast.Continue
)  # fmt: skip
"""Statements that by themselves answer nothing."""

_DOING = ast.Call | ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr
_DATA_NODES = (
    ast.Constant | ast.JoinedStr | ast.List | ast.Tuple | ast.Dict | ast.Set | ast.ListComp | ast.SetComp
    | ast.DictComp | ast.GeneratorExp | ast.Compare | ast.UnaryOp | ast.BinOp
)  # fmt: skip


class Defined(enum.IntEnum):
    """How surely a program defines a function."""

    NOT = 0
    LOOKS = 1
    """It reads as if it did, and is no Python."""
    POSSIBLY = 2
    """A stub without a body, or a value of which only running it would say whether it can be called."""
    WHOLLY = 3


def parse(code: str) -> ast.Module | None:
    """Return the syntax tree of untrusted code, or None where it is no Python."""
    if len(code) > MAX_CODE_CHARS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in an answer must not print a warning here
            return syntax.parse(code)
    # NUL bytes and surrogates are ValueError; deep nesting is RecursionError or MemoryError.
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def looks_defined(code: str, name: str) -> bool:
    """Whether a text holds what looks like a definition of a name; cheap, and right about most texts."""
    return _definition_of(name).search(code) is not None


@lru_cache(maxsize=4096)
def _definition_of(name: str) -> re.Pattern[str]:
    """How a line that defines a name can look."""
    name = re.escape(name)
    return re.compile(
        rf"^[ \t]*(?:(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b"
        rf"|{name}[ \t]*(?::[^=\n]*)?=(?!=)"
        rf"|(?:from|import)\b[^\n]*\b{name}\b)",
        re.MULTILINE,
    )


def defined(tree: ast.Module, name: str) -> Defined:
    """Return how surely a module's top level defines a function or class of that name."""
    return max(
        (_certainty(node, name, tree) for node in _top_level(tree.body)), default=Defined.NOT
    )


def missing_names(tree: ast.Module, needed: tuple[str, ...] = ()) -> set[str]:
    """Names that a program uses, or must define, and binds nowhere."""
    used, bound = _names(tree)
    return (used | set(needed)) - bound - _BUILTINS


def declarations(tree: ast.Module, name: str) -> list[ast.stmt]:
    """Statements of a helping block: not its examples, nor what it says of the tested function `name`."""
    return [
        node
        for node in tree.body
        if not isinstance(node, ast.Expr | ast.Assert)
        and not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        and not (
            node.name == name
            if isinstance(node, _DEFINITIONS)
            else any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))
        )
    ]


def is_stub(body: list[ast.stmt]) -> bool:
    """Whether a function's body holds nothing that could answer a problem: it returns nothing and changes nothing.

    So is the first part of a function that an explanation cites.
    """
    return not any(map(_could_answer, _top_level(body)))


def _could_answer(node: ast.stmt) -> bool:
    """Whether a statement, without those inside it, returns a value or changes something outside."""
    if _does_nothing(node) or isinstance(node, _DEFINITIONS):
        return False
    if not isinstance(node, _STEPS):
        return True
    own = (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))
    return any(_reaches_out(part) for child in own for part in ast.walk(child))


def _reaches_out(part: ast.AST) -> bool:
    """Whether an expression's part hands something out of the function, or changes a thing inside another."""
    if isinstance(part, ast.Attribute | ast.Subscript):
        return not isinstance(part.ctx, ast.Load)
    return isinstance(part, ast.Await | ast.Yield | ast.YieldFrom)


def _does_nothing(node: ast.stmt) -> bool:
    """Whether a statement stands for code that is not there."""
    match node:
        case ast.Pass() | ast.Return(value=None) | ast.Import() | ast.ImportFrom():
            return True
        case ast.Expr(value=value):
            return not any(isinstance(part, _DOING) for part in ast.walk(value))
        case ast.AnnAssign(value=None):
            return True
        case ast.Return(value=ast.Constant(value=value)):
            return value is None or value is ...
        case ast.Return(value=ast.Name(id=name)):
            return name == "NotImplemented"
        case ast.Raise(exc=ast.Name(id=name) | ast.Call(func=ast.Name(id=name))):
            return name == "NotImplementedError"
    return False


def any_prose(body: Iterable[ast.stmt]) -> bool:
    """Whether one of some statements is a line of prose: `Sure` and `Note: this` are Python too."""
    return any(map(_reads_as_prose, body))


def _reads_as_prose(node: ast.stmt) -> bool:
    """Whether a statement does nothing in Python, and says something in English."""
    match node:
        case ast.Expr(value=ast.Constant()):
            return False
        case ast.Expr(value=value):
            return not any(
                isinstance(part, ast.Call | ast.Await | ast.Constant) for part in ast.walk(value)
            )
        case ast.AnnAssign(annotation=ast.Name(id=name), value=None):
            return name[:1].islower() and name not in _BUILTINS
        case ast.AnnAssign(
            annotation=ast.Call() | ast.Constant() | ast.Tuple() | ast.Compare(), value=None
        ):
            return True
    return False


def top_level_names(body: Iterable[ast.stmt], *, imports: bool = True) -> set[str]:
    """Names that some statements of a module's top level bind; without `imports` what they define alone."""
    return {
        name
        for node in _top_level(body)
        if imports or not isinstance(node, _IMPORTS)
        for name in _targets(node)
    }


def _certainty(node: ast.stmt, name: str, tree: ast.Module) -> Defined:
    """How surely one statement defines a function or class of that name."""
    match node:
        case ast.FunctionDef(name=found) | ast.AsyncFunctionDef(name=found) if found == name:
            return Defined.POSSIBLY if is_stub(node.body) else Defined.WHOLLY
        case ast.ClassDef(name=found) if found == name:
            return Defined.WHOLLY
        case ast.Assign(targets=targets, value=value) if name in set(_targets(node)):
            plain = any(isinstance(target, ast.Name) and target.id == name for target in targets)
            return _callable(value, name, tree) if plain else Defined.POSSIBLY
        case ast.AnnAssign(target=ast.Name(id=found), value=value) if (
            found == name and value is not None
        ):
            return _callable(value, name, tree)
        case ast.Import() | ast.ImportFrom() if name in set(_targets(node)):
            return Defined.POSSIBLY
    return Defined.NOT


def _callable(value: ast.expr, name: str, tree: ast.Module) -> Defined:
    match value:
        case ast.Lambda():
            return Defined.WHOLLY
        case ast.Name(id=other) if other != name and other in _names(tree)[1] | _BUILTINS:
            return Defined.WHOLLY
        case ast.Attribute():
            return Defined.WHOLLY
        case ast.Call(func=ast.Name(id=called)) if called == name or called in _DATA:
            return Defined.NOT
        case _ if isinstance(value, _DATA_NODES):
            return Defined.NOT
    return Defined.POSSIBLY


def _top_level(body: Iterable[ast.AST]) -> Iterator[ast.stmt]:
    """Statements that run when the module does, those inside `if`, `try`, `with` and loops too."""
    pending = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, _DEFINITIONS | ast.expr):
            pending.extend(ast.iter_child_nodes(node))


def _targets(node: ast.stmt) -> Iterator[str]:
    """Names that a statement itself binds."""
    if isinstance(node, _DEFINITIONS | _IMPORTS):
        yield from _bound_by(node)
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr | ast.withitem):
            for part in ast.walk(child):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    yield part.id


def _names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Names that a program uses, and names that it binds, in any scope."""
    used: set[str] = set()
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):  # most of what binds or uses a name
            if isinstance(node.ctx, ast.Load):
                used.add(node.id)
            elif isinstance(node.ctx, ast.Store):
                bound.add(node.id)
        elif isinstance(node, _BINDS):
            bound.update(_bound_by(node))
    if "*" in bound:  # `from x import *` may bind anything
        bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return used, bound


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Names that a node of one of these kinds binds."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.arg(arg=name):
            yield name
        case ast.Import() | ast.ImportFrom():
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
            yield name
        case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            yield name
