"""Problems in MBPP's form: where they come from, how they are checked, what is kept of each."""

from __future__ import annotations

import ast
import builtins
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HUB_NAME = "google-research-datasets/mbpp"
HUB_REVISION = "4bb6404fdc6cacfda99d4ac4205087b89d32030c"
"""The dataset's conversion to Parquet; pinned, since a branch name can change under a run."""

SPLITS = {
    "prompt": range(1, 11),
    "test": range(11, 511),
    "validation": range(511, 601),
    "train": range(601, 975),
    "all": range(1, 975),
}
"""Task ids of each split, for both MBPP files (Source: arXiv:2108.07732, section 2.1)."""


@dataclass(frozen=True)
class _Source:
    """One of the two MBPP files: its name and what its content must be."""

    file_name: str
    file_sha256: str
    rows_sha256: str
    """Of the normalised rows (`rows_sha256`), so that a file and the hub are checked alike."""


_SOURCES = {
    "full": _Source(
        "mbpp.jsonl",
        "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
        "7c89c1462ebb3d53b8358b00969dcd19db699724cc5b0086eded14cde03a25e9",
    ),
    "sanitized": _Source(
        "sanitized-mbpp.json",
        "7fec016546acaee11dbe14f9f0bb670e59f41919f7b522a59fba34871da78551",
        "ed90264595d25b22e06ccce9e8e734b572ac1c80fae82ef062c14301ca09990e",
    ),
}


class DatasetError(Exception):
    """The problems could not be had as asked; the message says what to do."""


@dataclass(frozen=True)
class Problem:
    """One programming problem with its asserts and reference solution; line ends are LF."""

    task_id: int
    text: str
    asserts: tuple[str, ...]
    setup_code: str
    """Statements run after the candidate and before the asserts."""
    imports: tuple[str, ...]
    """Statements that the asserts need, for example `import math`."""
    reference: str
    callables: tuple[str, ...]
    """Names that the reference defines and the asserts call; the first is the tested function."""
    challenge_asserts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProblemSet:
    """Some problems, in order of task id, and the identity of their source."""

    name: str
    """e.g. `mbpp/sanitized/test`, `embedded/train`."""
    sha256: str
    """Of the source's normalised rows, all splits: the same for a local file and for the hub."""
    problems: tuple[Problem, ...]
    source: str = ""
    """Where the rows came from: a file, or the hub dataset and its revision."""


def load_problems(
    name: str, *, mbpp_dir: Path | None = None, limit: int | None = None
) -> ProblemSet:
    """Load `full/<split>`, `sanitized/<split>`, `embedded/<split>`, or a `.jsonl` file.

    MBPP comes from `mbpp_dir`, else the folder in `MBPP_DIR`, else the pinned hub dataset; its
    content is checked wherever it comes from. The embedded problems and a file need neither.

    Args:
        name: split is train, test, validation, prompt or all (embedded: train, test or all).
        mbpp_dir: folder that holds mbpp.jsonl and sanitized-mbpp.json.
        limit: keep only that many problems, the lowest task ids first.

    Raises:
        DatasetError: no source, altered content, unknown name, or nothing selected.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"limit must be at least 1 problem, got {limit!r}; raise it or leave it")
    config, _, split = name.removeprefix("mbpp/").partition("/")
    if name.endswith(".jsonl"):
        selected = _from_file(Path(name))
    elif config == "embedded" and split in ("train", "test", "all"):
        selected = _embedded(split)
    elif config in _SOURCES and split in SPLITS:
        selected = _mbpp(config, split, mbpp_dir=mbpp_dir)
    else:
        raise DatasetError(
            "dataset must be full/SPLIT or sanitized/SPLIT (SPLIT: train, test, validation, prompt "
            f"or all), embedded/train, embedded/test, embedded/all or a .jsonl file, got {name!r}; "
            "name one of these"
        )
    return replace(selected, problems=selected.problems[:limit])


def rows_sha256(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the sha256 over the normalised rows in order of task id, one canonical JSON each."""
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: int(row["task_id"])):
        content = {key: value for key, value in sorted(row.items())}
        digest.update(json.dumps(content, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def find_callables(reference: str, asserts: Sequence[str], setup_code: str = "") -> tuple[str, ...]:
    """Return the names that the reference defines and the asserts, then the setup code, call.

    The outermost call of the first assert comes first: it is the tested function. That is not
    always the reference's first `def`, and it can bear a builtin's name (task 126 defines `sum`).

    Raises:
        SyntaxError: one of the texts is no Python.
    """
    defined = set(_top_level_names(ast.parse(reference)))
    called = (
        node.func.id
        for text in (*asserts, setup_code)
        for node in _preorder(ast.parse(text.strip()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    )
    return tuple(dict.fromkeys(name for name in called if name in defined))


def _mbpp(config: str, split: str, *, mbpp_dir: Path | None) -> ProblemSet:
    """Load one split of MBPP from a folder or the hub, checked."""
    folder = mbpp_dir or (Path(os.environ["MBPP_DIR"]) if os.environ.get("MBPP_DIR") else None)
    source = _SOURCES[config]
    if folder is not None:
        path = folder / source.file_name
        rows = _read_mbpp_file(path, source)
        where = str(path)
    else:
        rows = _read_hub(config)
        where = f"{HUB_NAME}@{HUB_REVISION}"
    normalised = [_normalised(row) for row in rows]
    found = rows_sha256(normalised)
    if found != source.rows_sha256:
        raise DatasetError(
            f"the rows of mbpp/{config} must have sha256 {source.rows_sha256}, got {found!r} from "
            f"{where}; name a folder with the original files by --mbpp-dir"
        )
    ids = SPLITS[split]
    chosen = sorted((row for row in normalised if row["task_id"] in ids), key=_task_id)
    return ProblemSet(
        name=f"mbpp/{config}/{split}",
        sha256=found,
        problems=tuple(_problem(row) for row in chosen),
        source=where,
    )


def _read_mbpp_file(path: Path, source: _Source) -> list[dict[str, Any]]:
    """Read one of the two files, refusing any other content."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"the MBPP folder must hold a readable {source.file_name}, got {str(path)!r} "
            f"({error.strerror}); correct --mbpp-dir or MBPP_DIR"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != source.file_sha256:
        raise DatasetError(
            f"{source.file_name} must have sha256 {source.file_sha256}, got {found!r} from "
            f"{str(path)!r}; restore the original file"
        )
    rows: list[dict[str, Any]] = (
        [json.loads(line) for line in content.splitlines() if line.strip()]
        if path.suffix == ".jsonl"
        else json.loads(content)
    )
    return rows


def _read_hub(config: str) -> list[dict[str, Any]]:
    """Read all splits of one config from the hub's Parquet files."""
    advice = "name a folder with the two MBPP files by --mbpp-dir or MBPP_DIR"
    try:
        import datasets  # the hub is only one of the sources: no import without need
    except ImportError as error:
        raise DatasetError(
            f"the package datasets must be installed to read {HUB_NAME}, got {error.msg!r}; "
            f"install sdpo-bench[train], or {advice}"
        ) from error
    # The error says it once; the hub client would log each of its retries as well.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        splits = datasets.load_dataset(HUB_NAME, config, revision=HUB_REVISION)
    # What datasets and the hub client raise for a missing network, file or cache.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DatasetError(
            f"the hub dataset {HUB_NAME} must be reachable, got {reason!r}; {advice}"
        ) from error
    return [dict(row) for split in splits.values() for row in split]


def _embedded(split: str) -> ProblemSet:
    """Load the problems that come with this package."""
    path = Path(__file__).parent / "embedded" / "problems.jsonl"
    rows = _read_jsonl(path)
    normalised = [_normalised(row) for row in rows]
    chosen = [
        row for row, raw in zip(normalised, rows, strict=True) if split in ("all", raw["split"])
    ]
    return ProblemSet(
        name=f"embedded/{split}",
        sha256=rows_sha256(normalised),
        problems=tuple(_problem(row) for row in sorted(chosen, key=_task_id)),
        source="embedded",
    )


def _from_file(path: Path) -> ProblemSet:
    """Load a person's own problems: one JSON object a line, with MBPP's field names."""
    normalised = []
    for number, row in enumerate(_read_jsonl(path), start=1):
        try:
            normalised.append(_normalised(row))
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                "each line must hold task_id (integer), text, code and test_list, got "
                f"{type(error).__name__} {str(error)!r} at {str(path)!r} line {number}; mend it"
            ) from error
    problems = []
    for row in sorted(normalised, key=_task_id):
        try:
            problems.append(_problem(row))
        except SyntaxError as error:
            raise DatasetError(
                f"code and asserts must be Python, got {error.msg!r} in task {row['task_id']} of "
                f"{str(path)!r}; mend it"
            ) from error
    _check_problems(problems, path)
    return ProblemSet(
        name=f"file/{path.name}",
        sha256=rows_sha256(normalised),
        problems=tuple(problems),
        source=str(path),
    )


def _check_problems(problems: Sequence[Problem], path: Path) -> None:
    """Refuse what could not be graded: no problems, doubled ids, asserts that call nothing."""
    if not problems:
        raise DatasetError(
            f"a problem file must hold at least one problem, got none in {str(path)!r}; add some"
        )
    seen: set[int] = set()
    for problem in problems:
        if problem.task_id in seen:
            raise DatasetError(
                f"task ids must be unique, got {problem.task_id} twice in {str(path)!r}; "
                "renumber one"
            )
        seen.add(problem.task_id)
        if not problem.callables:
            raise DatasetError(
                "the asserts must call a function that the reference solution defines, got none "
                f"in task {problem.task_id} of {str(path)!r}; mend it"
            )


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line; blank lines do not count."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"the problem file must be readable UTF-8 text, got {str(path)!r} ({error}); "
            "correct its name"
        ) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DatasetError(
                f"each line must hold one JSON object, got {str(path)!r} line {number} ({error}); "
                "mend it"
            ) from error
        rows.append(row)
    return rows


def _normalised(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of either MBPP file in one form, with LF line ends."""
    return {
        "task_id": int(row["task_id"]),
        # The sanitized file calls the description `prompt`.
        "text": _lf(row["text"] if "text" in row else row["prompt"]),
        "code": _lf(row["code"]),
        "test_list": [_lf(text) for text in row["test_list"]],
        "test_setup_code": _lf(row.get("test_setup_code") or ""),
        "test_imports": [_lf(text) for text in row.get("test_imports") or ()],
        "challenge_test_list": [_lf(text) for text in row.get("challenge_test_list") or ()],
    }


def _lf(text: str) -> str:
    """Return the text with LF line ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _problem(row: Mapping[str, Any]) -> Problem:
    """Build a problem from a normalised row."""
    asserts = tuple(text.strip() for text in row["test_list"])
    challenge = tuple(text.strip() for text in row["challenge_test_list"])
    return Problem(
        task_id=row["task_id"],
        text=row["text"].strip(),
        asserts=asserts,
        setup_code=row["test_setup_code"],
        imports=_imports(row, (*asserts, *challenge)),
        reference=row["code"],
        callables=find_callables(row["code"], asserts, row["test_setup_code"]),
        challenge_asserts=challenge,
    )


def _imports(row: Mapping[str, Any], asserts: Sequence[str]) -> tuple[str, ...]:
    """Return the row's imports and those of the reference that only the asserts rely on.

    Task 596 compares with `sys.getsizeof(...)` and leaves `import sys` to the solution; a
    candidate that does not need `sys` must not fail for it.
    """
    given = [text.strip() for text in row["test_imports"] if text.strip()]
    bound = set(dir(builtins))
    for text in given:
        bound.update(_top_level_names(ast.parse(text), imports=True))
    used = {
        node.id
        for text in asserts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Name)
    }
    for statement in ast.parse(row["code"]).body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            names = {alias.asname or alias.name.split(".")[0] for alias in statement.names}
            if names & (used - bound):
                given.append(ast.unparse(statement))
                bound |= names
    return tuple(given)


def _top_level_names(tree: ast.Module, *, imports: bool = False) -> Iterator[str]:
    """Names that a module's top level defines: functions, classes, assignments."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                if imports:
                    yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Lambda():
                pass
            case _:
                pending.extend(ast.iter_child_nodes(node))


def _preorder(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a tree, a parent before its children and those in source order."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(list(ast.iter_child_nodes(node))))


def _task_id(row: Mapping[str, Any]) -> int:
    """Sorting key."""
    task_id: int = row["task_id"]
    return task_id
