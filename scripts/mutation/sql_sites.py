"""Every small bug that can be planted in the SQL views: words and signs taken for each other."""

from __future__ import annotations

import re

from scripts.mutation.mutant import Mutant

_VIEW = re.compile(r"CREATE (?:VIEW|MACRO) (?P<name>\w+).*?;\n", re.DOTALL)
_QUIET = re.compile(r"--[^\n]*|'(?:[^']|'')*'|\"[^\"]*\"")
"""Comments and literals, where no operator stands."""

_KEYS = "eval_id|step|task_id|dataset|protocol|decoding|source"

RULES: tuple[tuple[str, str, str], ...] = (
    ("join", r"\bLEFT JOIN\b", "JOIN"),
    ("join", r"(?<!LEFT )\bJOIN\b", "LEFT JOIN"),
    ("aggregate", r"\bsum\(", "avg("),
    ("aggregate", r"\bavg\(", "sum("),
    ("aggregate", r"\bmin\(", "max("),
    ("aggregate", r"\b(?<!_)max\(", "min("),
    ("aggregate", r"\barg_max\(", "arg_min("),
    ("aggregate", r"\bgreatest\(", "least("),
    ("aggregate", r"\bleast\(", "greatest("),
    ("aggregate", r"\bbool_and\(", "bool_or("),
    ("aggregate", r"\bstddev_samp\(", "stddev_pop("),
    ("aggregate", r"\bsqrt\(", "("),
    ("aggregate", r"\bcount\((?=\w)", "count(DISTINCT "),
    ("aggregate", r"\bfirst_value\(", "last_value("),
    ("distinct", r"\bDISTINCT ", ""),
    ("filter", r" FILTER \([^()]*(?:\([^()]*\))?[^()]*\)", ""),
    ("comparison", r"<=", "<"),
    ("comparison", r">=", ">"),
    ("comparison", r"<>", "="),
    ("comparison", r"(?<![<>=!-])>(?![>=])", ">="),
    ("comparison", r"(?<![<>=!])<(?![>=])", "<="),
    ("comparison", r"(?<=\w )= (?=\w)", "<> "),
    ("arithmetic", r" \+ ", " - "),
    ("arithmetic", r" - ", " + "),
    ("arithmetic", r"(?<=\w|\)) \* (?=[\w(])", " / "),
    ("arithmetic", r" / ", " * "),
    ("and/or", r"\bAND\b(?! \d)", "OR"),
    ("and/or", r"\bOR\b", "AND"),
    ("order", r" DESC\b", ""),
    ("order", r"\bNULLS FIRST\b", "NULLS LAST"),
    ("order", r"\bNULLS LAST\b", "NULLS FIRST"),
    ("null", r"\bIS NOT NULL\b", "IS NULL"),
    ("null", r"\bIS NULL\b", "IS NOT NULL"),
    ("null", r"\bnullif\((?P<first>[^(),]+(?:\([^()]*\))?), 0\)", r"\g<first>"),
    ("null", r"\bcoalesce\((?P<first>[\w.]+), [^()]*\)", r"\g<first>"),
    ("negation", r"\bNOT ", ""),
    ("constant", r"(?<![\w.$])(?:0|1|2|3)(?![\w.])", "+1"),
    ("constant", r"(?<![\w.$])\d+\.\d+(?!\w)", "*2"),
    ("union", r"\bUNION ALL\b", "UNION"),
    ("key", rf", (?:{_KEYS})(?=\b(?! DESC)[^)(\n]*\) (?:AS|=|OVER)|\))", ""),
    ("condition", r" AND [^\n]*(?=;\n)", ""),
    ("condition", r"\nWHERE [^;\n]*(?=;\n|\n)", "\n"),
    ("other side", r"\ba\.(?=passed|outcome|eval_id|run_id)", "b."),
    ("other side", r"\bp\.(?=algorithm|seed|run_id)", "r."),
)  # fmt: skip
"""(operator, what is looked for, what is put there); `+1` and `*2` are of the number found."""


def sql_mutants(area: str, path: str, source: str) -> list[Mutant]:
    """Every mutant of the views and macros of a SQL file; comments, literals and descriptions stay."""
    found = []
    for view in _VIEW.finditer(source):
        body = _QUIET.sub(lambda quiet: "\1" * len(quiet[0]), view[0])
        for operator, pattern, after in RULES:
            for match in re.finditer(pattern, body):
                if operator == "other side" and f" {after[0]} " not in body:
                    continue
                if "\1" in match[0] and operator not in ("filter", "condition"):
                    continue
                start = view.start() + match.start()
                line = source.count("\n", 0, start + (match[0].startswith("\n")))
                found.append(
                    Mutant(
                        area,
                        path,
                        start,
                        view.start() + match.end(),
                        _put(match, after),
                        operator,
                        view["name"],
                        line + 1,
                        source.split("\n")[line].strip(),
                    )
                )
    return sorted(found, key=lambda m: (m.start, m.end, m.after))


def _put(match: re.Match[str], after: str) -> str:
    match after:
        case "+1":
            return str(int(match[0]) + 1)
        case "*2":
            return str(float(match[0]) * 2)
    return match.expand(after)
