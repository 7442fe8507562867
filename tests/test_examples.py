"""The notebook in examples/ runs from its first cell to its last, and says what it announces."""

import json
import subprocess
import sys

import pytest

from tests.test_docs import ROOT

CELLS = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text())["cells"]
PROGRAM = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code")


def test_the_notebook_needs_about_twenty_lines():
    lines = [line for line in PROGRAM.splitlines() if line and "import" not in line]
    assert len(lines) <= 20


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.long
def test_the_notebook_grades_trains_and_queries(tmp_path):
    folder = tmp_path / "examples"
    folder.mkdir()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (folder / "notebook.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "notebook.py"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    graded = [line.split()[1] for line in lines[:10]]
    assert graded == ["True"] * 9 + ["False"]
    counts = [
        line.split() for line in lines[10:] if line[:2] in ("1 ", "2 ") and len(line.split()) == 3
    ]
    assert {step for step, _, _ in counts} == {"1", "2"}
    assert sum(int(n) for _, _, n in counts) == 2 * 64
