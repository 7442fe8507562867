"""Imports what the training image must hold: `check_imports.py [EXTRAS]`, the last step of its build.

Each package in a process of its own, without a GPU; for the extra `gpu` a C file against Python.h is compiled too,
as Triton does.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from evaluator.doctor.gpu import compiler_problem, import_problem

ALWAYS = ("peft", "trl", "bitsandbytes")
OF_EXTRA = {"gpu": ("unsloth",), "ray": ("ray",)}


def main() -> None:
    """Exit with a line for each thing that is missing."""
    extras = [name for argument in sys.argv[1:] for name in argument.split(",") if name]
    names = [*ALWAYS, *(name for extra in extras for name in OF_EXTRA.get(extra, ()))]
    with tempfile.TemporaryDirectory(prefix="check-imports-") as folder:
        problems = [import_problem(name, Path(folder)) for name in names]
    if "gpu" in extras:
        problems.append(compiler_problem())
    found = [problem for problem in problems if problem is not None]
    if found:
        sys.exit("\n".join(found))
    print(f"imported: {', '.join(names)}" + "; compiled against Python.h" * ("gpu" in extras))


if __name__ == "__main__":
    main()
