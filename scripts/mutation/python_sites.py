"""Every small bug that can be planted in a Python file: an edit of its text for each."""

from __future__ import annotations

import ast
import bisect
import re
from collections.abc import Iterable, Mapping

from scripts.mutation.mutant import Mutant

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
_RENAMED = {
    "sum": "mean",
    "mean": "sum",
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "amax": "amin",
    "minimum": "maximum",
    "maximum": "minimum",
    "clamp_min": "clamp_max",
    "clamp_max": "clamp_min",
    "startswith": "endswith",
    "endswith": "startswith",
    "repeat_interleave": "repeat",
    "lstrip": "rstrip",
    "find": "rfind",
    "partition": "rpartition",
    "fullmatch": "match",
    "match": "search",
}
"""Methods and functions that are taken for each other."""
_LEFT_OUT = frozenset(
    "detach clone clamp clamp_min clamp_max strip lstrip rstrip lower exp log sqrt abs bool sorted reversed set".split()
)
"""Calls that are left out: `x.detach()` becomes `x`, `sorted(x)` becomes `list(x)`."""
_UNLIKE = frozenset(
    "isinstance issubclass getattr setattr hasattr setdefault cast partial zip"
    " min max promote_types logaddexp maximum minimum equal allclose".split()
)
"""Functions whose first two arguments nobody takes for each other, or whose order says nothing."""
_QUIET = frozenset("strict device preserve_rng_state".split())
"""Arguments that matter where lengths differ by mistake, or on a second device."""
_WITHOUT = frozenset("no_grad inference_mode once_differentiable".split())


class PythonSites(ast.NodeVisitor):
    """Collects the edits of one file."""

    def __init__(
        self, area: str, path: str, source: str, required: Mapping[str, frozenset[str]]
    ) -> None:
        """Read `source`, which lies at `path`; calls cannot do without their `required` keywords."""
        self._required = required
        self._area, self._path, self._source = area, path, source
        self._scopes: list[str] = []
        self._found: list[Mutant] = []
        self._lines = source.split("\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)

    def mutants(self) -> list[Mutant]:
        """All edits, in the order of the file."""
        self.visit(ast.parse(self._source))
        return sorted(self._found, key=lambda m: (m.start, m.end, m.after))

    # where things stand

    def _at(self, line: int, column: int) -> int:
        # columns of ast count bytes
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return self._at(node.lineno, node.col_offset), self._at(
            node.end_lineno, node.end_col_offset
        )  # type: ignore[attr-defined]

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._source[start:end]

    def _add(self, operator: str, start: int, end: int, after: str) -> None:
        line = bisect.bisect_right(self._starts, start) - 1
        if self._source[start:end] != after:
            self._found.append(
                Mutant(
                    self._area,
                    self._path,
                    start,
                    end,
                    after,
                    operator,
                    ".".join(self._scopes),
                    line + 1,
                    self._lines[line].strip(),
                )
            )

    def _replace(self, operator: str, node: ast.AST, after: str) -> None:
        self._add(operator, *self._span(node), after)

    def _between(
        self, operator: str, left: ast.AST, right: ast.AST, before: str, after: str
    ) -> None:
        start, end = self._span(left)[1], self._span(right)[0]
        words = r"\s+".join(map(re.escape, before.split()))
        found = re.search(words, self._source[start:end])
        if found:
            self._add(operator, start + found.start(), start + found.end(), after)

    # what is not touched: annotations, docstrings, words for people

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """A function's decorators, defaults and body."""
        self._scopes.append(node.name)
        for decorator in node.decorator_list:
            if {n.attr for n in ast.walk(decorator) if isinstance(n, ast.Attribute)} & _WITHOUT or (
                isinstance(decorator, ast.Name) and decorator.id in _WITHOUT
            ):
                start, end = self._span(decorator)
                self._add("decorator left out", start - 1, end, "")
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self._body(node.body)
        self._scopes.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """A class's body."""
        self._scopes.append(node.name)
        self._body(node.body)
        self._scopes.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The value; not the annotation."""
        if node.value is not None:
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        """That it is raised; not what it says."""
        self._replace("statement left out", node, "pass")

    def visit_Assert(self, node: ast.Assert) -> None:
        """For the type checker only."""

    def visit_Import(self, node: ast.Import) -> None:
        """Nothing to change."""

    visit_ImportFrom = visit_Import  # type: ignore[assignment]

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Words for people."""

    def _body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                self.visit(statement)

    # conditions

    def visit_If(self, node: ast.If) -> None:
        """A condition turned round."""
        if "TYPE_CHECKING" in self._text(node.test):
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Likewise."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        """A filter turned round, or left out."""
        for test in node.ifs:
            self._negate(test)
            self._replace("filter left out", test, "True")
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.UnaryOp):
            self._replace("condition turned round", test, f"(not ({self._text(test)}))")

    def visit_Compare(self, node: ast.Compare) -> None:
        """`<` for `<=` and the like."""
        left: ast.expr = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            self._between("comparison", left, right, *_COMPARISONS[type(op)])
            left = right
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """`or` for `and`, or one operand left out."""
        words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between("and/or", left, right, *words)
        for index in range(len(node.values)):
            others = [self._text(v) for i, v in enumerate(node.values) if i != index]
            self._replace("operand left out", node, "(" + f" {words[0]} ".join(others) + ")")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """A `not`, `~` or minus left out; an axis of -1 is a constant."""
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            if isinstance(node.operand.value, int) and not isinstance(node.operand.value, bool):
                self._replace("constant", node, f"{1 - node.operand.value}")
            else:
                self._replace("sign", node, self._text(node.operand))
            return
        name = "negation left out" if isinstance(node.op, ast.Not | ast.Invert) else "sign"
        self._replace(name, node, f"({self._text(node.operand)})")
        self.generic_visit(node)

    # values

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """`-` for `+` and the like; texts are put together and stay so."""
        sides = (node.left, node.right)
        texts = any(
            isinstance(s, ast.JoinedStr | ast.List | ast.ListComp)
            or (isinstance(s, ast.Constant) and isinstance(s.value, str))
            for s in sides
        )
        if not texts and type(node.op) in _ARITHMETIC:
            self._between("arithmetic", node.left, node.right, *_ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Another number: the next, or for a limit twice as much; another truth."""
        value = node.value
        if isinstance(value, bool):
            self._replace("constant", node, str(not value))
        elif isinstance(value, int):
            self._replace("constant", node, str(value + 1 if value < 10 else value * 2))
        elif isinstance(value, float):
            self._replace("constant", node, {0.0: "1.0", 1.0: "0.0"}.get(value, repr(value * 2)))

    def visit_keyword(self, node: ast.keyword) -> None:
        """An argument's value."""
        if node.arg not in _QUIET:
            self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """A bound of a slice moved by one."""
        if isinstance(node.slice, ast.Slice):
            for bound in (node.slice.lower, node.slice.upper):
                if bound is not None and not isinstance(bound, ast.Constant):
                    self._replace("slice", bound, f"({self._text(bound)}) + 1")
        self.generic_visit(node)

    # calls and statements

    def visit_Call(self, node: ast.Call) -> None:
        """Another function, swapped arguments, an argument or the whole call left out."""
        name = _name(node.func)
        if name in ("warning", "info", "debug", "field", "compile", "Literal", "TypeVar"):
            return
        # Python itself has a sum and no mean
        if name in _RENAMED and (name != "sum" or isinstance(node.func, ast.Attribute)):
            end = self._span(node.func)[1]
            self._add("other function", end - len(name), end, _RENAMED[name])
        if name in _LEFT_OUT:
            self._leave_out(node, name)
        plain = [a for a in node.args if not isinstance(a, ast.Starred)]
        if len(plain) == len(node.args) >= 2 and name not in _UNLIKE:
            first, second = (self._text(a) for a in node.args[:2])
            start, end = self._span(node.args[0])[0], self._span(node.args[1])[1]
            inner = self._source[self._span(node.args[0])[1] : self._span(node.args[1])[0]]
            self._add("arguments swapped", start, end, second + inner + first)
        for keyword in node.keywords:
            # without a required one every call fails, which any test sees
            is_required = keyword.arg in self._required.get(name, ())
            is_quiet = keyword.arg in _QUIET or name in ("dict", "replace")
            if keyword.arg is not None and not is_required and not is_quiet:
                self._leave_out_keyword(keyword)
        self.generic_visit(node)

    def _leave_out(self, node: ast.Call, name: str) -> None:
        if isinstance(node.func, ast.Attribute):
            self._replace("call left out", node, self._text(node.func.value))
        elif name in ("sorted", "reversed", "set") and node.args:
            self._replace("call left out", node, f"list({self._text(node.args[0])})")

    def _leave_out_keyword(self, keyword: ast.keyword) -> None:
        start, end = self._span(keyword)
        comma = re.compile(r"\s*,").match(self._source, end)
        self._add("argument left out", start, comma.end() if comma else end, "")

    def visit_Expr(self, node: ast.Expr) -> None:
        """A call for its effect left out; a yield is not."""
        if isinstance(node.value, ast.Call):
            self._replace("statement left out", node, "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """A change of a value left out."""
        self._replace("statement left out", node, "pass")
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        """A `continue` left out."""
        self._replace("statement left out", node, "pass")

    def visit_With(self, node: ast.With) -> None:
        """One of a block's contexts left out."""
        for item in node.items:
            if item.optional_vars is None:
                after = '__import__("contextlib").nullcontext()'
                self._replace("context left out", item.context_expr, after)
        self.generic_visit(node)


def _name(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def required_keywords(sources: Iterable[str]) -> dict[str, frozenset[str]]:
    """Of each function and dataclass by its name, the arguments that have no default."""
    found: dict[str, frozenset[str]] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                places = node.args.args[: len(node.args.args) - len(node.args.defaults)]
                pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
                names = [a.arg for a in places] + [a.arg for a, d in pairs if d is None]
                found[node.name] = found.get(node.name, frozenset()) | set(names)
            elif isinstance(node, ast.ClassDef):
                fields = [s for s in node.body if isinstance(s, ast.AnnAssign) and s.value is None]
                names = [s.target.id for s in fields if isinstance(s.target, ast.Name)]
                init = next((s for s in node.body if getattr(s, "name", "") == "__init__"), None)
                if isinstance(init, ast.FunctionDef):
                    pairs = zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
                    names = [a.arg for a, d in pairs if d is None]
                found[node.name] = found.get(node.name, frozenset()) | set(names)
    return found


def python_mutants(
    area: str, path: str, source: str, required: Mapping[str, frozenset[str]]
) -> list[Mutant]:
    """Every mutant of a Python file; a few are no Python any more (`is_python`)."""
    return PythonSites(area, path, source, required).mutants()


def is_python(source: str) -> bool:
    """Whether a mutant's text still is Python."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True
