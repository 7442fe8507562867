"""Prints the requirements of this project's named extras, one a line: `extra_requirements.py gpu,ray`."""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Read pyproject.toml beside or above this file."""
    here = Path(__file__).resolve().parent
    file = next(p for p in (here / "pyproject.toml", here.parent / "pyproject.toml") if p.is_file())
    extras = tomllib.loads(file.read_text())["project"]["optional-dependencies"]
    wanted = [name for argument in sys.argv[1:] for name in argument.split(",") if name]
    unknown = sorted(set(wanted) - set(extras))
    if unknown:
        sys.exit(f"extras must be of {', '.join(sorted(extras))}, got {', '.join(unknown)}")
    for name in wanted:
        print("\n".join(extras[name]))


if __name__ == "__main__":
    main()
