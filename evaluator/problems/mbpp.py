"""The data sets by name, and MBPP itself: from its two files or the hub, checked by content."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.installation import install_command
from analysis.task_ids import task_id, task_order
from evaluator.problems.evalplus.rows import how_to_get
from evaluator.problems.human_eval import HUMAN_EVAL, load_human_eval
from evaluator.problems.problem import (
    DatasetError,
    Problem,
    ProblemSet,
    by_task_id,
    find_callables,
    normalised_row,
    problem_from_row,
    rows_sha256,
)
from evaluator.problems.problem_file import IO, load_embedded, load_problem_file
from evaluator.problems.row_file import ENDINGS, is_row_file
from sandbox.client import Sandbox

__all__ = [
    "DatasetError",
    "Problem",
    "ProblemSet",
    "find_callables",
    "load_problems",
    "rows_sha256",
]

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

CHECKED = "-checked"
"""Ending of a split's name that leaves out the ill-formed problems: `sanitized/test-checked`."""

ILL_FORMED = frozenset(
    {83, 115, 117, 143, 163, 164, 228, 229, 249, 295, 304, 307, 393, 396, 400, 407, 408, 411, 417}
    | {431, 438, 442, 443, 444, 452, 461, 464}
)
"""Test problems whose text, asserts or reference contradict each other (Source: evalplus's list for MBPP)."""


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


_CHOSEN = re.compile(r"(?P<name>.+)\[(?P<wanted>[^\[\]]+)\]")
"""A data set with the task ids or tags that are wanted of it: `sanitized/test[56,98]`, `mine.jsonl[tag=graphs]`."""

_TAG = "tag="


def load_problems(
    name: str,
    *,
    mbpp_dir: Path | None = None,
    limit: int | None = None,
    sandbox: Sandbox | str = "auto",
) -> ProblemSet:
    """Load `full/<split>`, `sanitized/<split>`, `embedded/<split>`, `human-eval` or a person's own file.

    `name[56,98]` is only these tasks of it, `name[tag=graphs]` those that bear the tag, and
    `sanitized/test-checked` leaves out `ILL_FORMED`. A file is any that `evaluator.problems` reads. MBPP comes
    from `mbpp_dir`, else the folder in `MBPP_DIR`, else the pinned hub dataset; its content is checked wherever it
    comes from.

    Args:
        name: split is train, test, validation, prompt or all (embedded: train, test or all).
        mbpp_dir: folder that holds mbpp.jsonl and sanitized-mbpp.json.
        limit: keep only that many problems, the lowest task ids first.
        sandbox: an open one, or the backend to open: a file of evalplus' form has its solutions run, once.

    Raises:
        DatasetError: no source, altered content, unknown name or task, or nothing selected.
        SandboxError: it is needed and cannot be had.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"limit must be at least 1 problem, got {limit!r}; raise it or leave it")
    chosen = _CHOSEN.fullmatch(name)
    if chosen is None:
        selected = _load(name, mbpp_dir, sandbox)
    else:
        selected = _only(_load(chosen["name"], mbpp_dir, sandbox), chosen["wanted"].split(","))
    return replace(selected, problems=selected.problems[:limit])


def _load(name: str, mbpp_dir: Path | None, sandbox: Sandbox | str) -> ProblemSet:
    how = how_to_get(name)
    if how is not None and not Path(name).exists():
        raise DatasetError(f"MBPP+ and HumanEval+ must be read from a file, got {name!r}; {how}")
    config, _, split = name.removeprefix("mbpp/").partition("/")
    if name == HUMAN_EVAL:
        return load_human_eval()
    if config == "embedded" and split in ("train", "test", "all", IO):
        return load_embedded(split)
    if config in _SOURCES and split.removesuffix(CHECKED) in SPLITS:
        return _mbpp(config, split, mbpp_dir=mbpp_dir)
    if is_row_file(name):
        return load_problem_file(Path(name), sandbox=sandbox)
    raise DatasetError(
        "dataset must be full/SPLIT or sanitized/SPLIT (SPLIT: train, test, validation, prompt "
        f"or all, each also with {CHECKED}), embedded/train, embedded/test, embedded/all, embedded/{IO}, {HUMAN_EVAL}, "
        f"or a file ({', '.join(ENDINGS)}) or folder of problems, got {name!r}; name one of these"
    )


def _only(problem_set: ProblemSet, wanted: Sequence[str]) -> ProblemSet:
    """Some problems of a set, by id or tag, which its name then says."""
    tags = {part.removeprefix(_TAG).strip() for part in wanted if part.startswith(_TAG)}
    ids = {task_id(part.strip()) for part in wanted if not part.startswith(_TAG)}
    known = {problem.task_id for problem in problem_set.problems}
    known_tags = {tag for problem in problem_set.problems for tag in problem.tags}
    unknown = [*sorted(ids - known, key=task_order), *sorted(tags - known_tags)]
    if unknown:
        examples = map(str, sorted(known, key=task_order)[:3])
        tagged = (_TAG + tag for tag in sorted(known_tags)[:2])
        raise DatasetError(
            f"task ids and tags must be of {problem_set.name} ({len(known)} problems, {len(known_tags)} tags), "
            f"got {unknown[0]!s:.100}; name others, such as {', '.join([*examples, *tagged])}"
        )
    names = [*(_TAG + tag for tag in sorted(tags)), *map(str, sorted(ids, key=task_order))]
    chosen = (p for p in problem_set.problems if p.task_id in ids or tags & set(p.tags))
    name = f"{problem_set.name}[{','.join(names)}]"
    return replace(problem_set, name=name, problems=tuple(chosen))


def _mbpp(config: str, split: str, *, mbpp_dir: Path | None) -> ProblemSet:
    folder = mbpp_dir or (Path(os.environ["MBPP_DIR"]) if os.environ.get("MBPP_DIR") else None)
    source = _SOURCES[config]
    if folder is not None:
        path = folder / source.file_name
        rows = _read_mbpp_file(path, source)
        where = str(path)
    else:
        rows = _read_hub(config)
        where = f"{HUB_NAME}@{HUB_REVISION}"
    normalised = [normalised_row(row) for row in rows]
    found = rows_sha256(normalised)
    if found != source.rows_sha256:
        raise DatasetError(
            f"the rows of mbpp/{config} must have sha256 {source.rows_sha256}, got {found!r} from "
            f"{where}; name a folder with the original files by --mbpp-dir"
        )
    ids = set(SPLITS[split.removesuffix(CHECKED)])
    if split.endswith(CHECKED):
        ids -= ILL_FORMED
    chosen = sorted((row for row in normalised if row["task_id"] in ids), key=by_task_id)
    return ProblemSet(
        name=f"mbpp/{config}/{split}",
        sha256=found,
        problems=tuple(problem_from_row(row) for row in chosen),
        source=where,
    )


def _read_mbpp_file(path: Path, source: _Source) -> list[dict[str, Any]]:
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
    advice = "name a folder with the two MBPP files by --mbpp-dir or MBPP_DIR"
    try:
        import datasets  # the hub is only one of the sources: no import without need
    except ImportError as error:
        raise DatasetError(
            f"the package datasets must be installed to read {HUB_NAME}, got {error.msg!r}; "
            f"{install_command('train')}, or {advice}"
        ) from error
    # The error says it once; the hub client would log each of its retries as well.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        splits = datasets.load_dataset(HUB_NAME, config, revision=HUB_REVISION)
    # What datasets and the hub client raise for a missing network, file or cache.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        cause = error.__cause__ or error  # datasets says only that something went wrong
        reason = str(cause).splitlines()[0][:200] if str(cause) else type(cause).__name__
        raise DatasetError(
            f"the hub dataset {HUB_NAME} must be reachable, got {reason!r}; {advice}"
        ) from error
    return [dict(row) for split in splits.values() for row in split]
