"""Plant every bug, one at a time, and say which live: `python -m scripts.mutation [AREA ...]`."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.mutation.areas import AREAS, ROOT, Area, planted, sources, test_files
from scripts.mutation.mutant import Mutant
from scripts.mutation.runner import Reach, Result, Worker, in_workers, try_one
from scripts.mutation.survivors import reasons

MAX_SURVIVING = 0.05
"""Share of the planted mutants that may live, each for a reason that is written down."""

FOLDER = ROOT / "build" / "mutation"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 where few enough live and each has its reason."""
    options = _parser().parse_args(arguments)
    areas = [area for area in AREAS if not options.areas or area.name in options.areas]
    jobs = _jobs(areas, options)
    if options.list:
        for area, mutant, source in jobs:
            print(f"{mutant.key} {area.name} {mutant.path}:{mutant.line} {mutant.operator}")
            print(mutant.diff(source))
        return 0
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    reach = Reach(folder)
    files = sorted({file for area in areas for file in test_files(area)})
    how: dict[str, Any] = {"folder": folder, "n_workers": options.workers}
    how["heavy"] = any(area.heavy for area in areas)
    reach.measure(files, **how, say=lambda line: print(line, flush=True))
    done = _kept(folder) if options.again else {}
    pending = [job for job in jobs if done.get(job[1].key) not in ("killed", "timed out")]

    keeping = threading.Lock()

    def work(worker: Worker, job: tuple[Area, Mutant, str]) -> Result:
        area, mutant, source = job
        tests = reach.tests_of(mutant, area, source)
        return try_one(worker, mutant, source, tests, reach.seconds(tests))

    def say(result: Result) -> None:
        m = result.mutant
        line = f"{result.fate:9} {m.key} {m.path}:{m.line} {m.operator} {result.seconds:.1f} s {result.by}"
        print(line, flush=True)
        with keeping:
            _keep(folder, [result])

    results = in_workers(pending, work, **how, say=say)
    tried = {r.mutant.key for r in results}
    results += [Result(m, done[m.key], "", 0.0) for _, m, _ in jobs if m.key not in tried]
    return report(results, {m.key: source for _, m, source in jobs}, areas)


def report(results: Sequence[Result], texts: dict[str, str], areas: Sequence[Area]) -> int:
    """Print the table and whoever lived; 1 where too many did, or one without a reason."""
    print("\n| area | planted | killed | timed out | survived |")
    print("| --- | ---: | ---: | ---: | ---: |")
    names = [area.name for area in areas]
    for name in [*names, "all"]:
        fates = Counter(r.fate for r in results if name in ("all", r.mutant.area))
        print(
            f"| {name} | {fates.total()} | {fates['killed']} | {fates['timed out']} | {fates['survived']} |"
        )
    living = [r for r in results if r.fate == "survived"]
    known = reasons()
    unknown = 0
    for result in living:
        m = result.mutant
        reason = known.get(m.key)
        unknown += reason is None
        print(f"\n{m.key} {m.path}:{m.line} ({m.operator})")
        print(m.diff(texts[m.key]))
        print(f"  reason: {reason or 'none given'}")
    share = len(living) / max(len(results), 1)
    print(
        f"\n{len(living)} of {len(results)} live ({share:.1%}), {unknown} of them without a reason"
    )
    return int(share > MAX_SURVIVING or unknown > 0)


def _jobs(areas: Sequence[Area], options: argparse.Namespace) -> list[tuple[Area, Mutant, str]]:
    found = []
    for area in areas:
        texts = sources(area)
        for mutant in planted(area, texts):
            source = texts.get(mutant.path) or (ROOT / mutant.path).read_text(encoding="utf-8")
            wanted = not options.keys or mutant.key in options.keys
            if wanted and _share_of(mutant.key) < options.share:
                found.append((area, mutant, source))
    return found


def _share_of(key: str) -> float:
    """A number in 0..1 that a mutant keeps."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32


def _kept(folder: Path) -> dict[str, str]:
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _keep(folder: Path, results: Sequence[Result]) -> None:
    fates = _kept(folder) | {r.mutant.key: r.fate for r in results}
    (folder / "results.json").write_text(json.dumps(fates, indent=0))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    parser.add_argument("areas", nargs="*", metavar="AREA", help=", ".join(a.name for a in AREAS))
    parser.add_argument("--share", type=float, default=1.0, help="fixed share to plant, 0..1")
    parser.add_argument("--keys", nargs="*", help="only these mutants")
    parser.add_argument("--again", action="store_true", help="only those that lived last time")
    parser.add_argument("--list", action="store_true", help="say what would be planted")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for copies and results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
