"""What a journal and a results file hold, and processes that write to them."""

import json
import subprocess
import sys

from analysis.journal.journal import Journal, segments
from analysis.journal.lines import Line, scan
from analysis.records import Metric
from analysis.warehouse.tables import record_tables
from analysis.warehouse.warehouse import connect
from benchmarks.synthetic import synthetic_info


def rows(results, query):
    with connect(results) as connection:
        return connection.execute(query).fetchall()


def write(runs, run_id="a", values=(1.0,), *, step=1):
    """A finished run with a value of its loss for each step."""
    with Journal.create(runs, synthetic_info(run_id)) as journal:
        for offset, value in enumerate(values):
            journal.append(Metric(step=step + offset, name="loss", value=value))


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process, *, kill=False):
    """What it printed that was not read yet; `communicate` would leave out what `readline` read ahead."""
    if kill:
        process.kill()
    process.stdin.close()
    with process.stdout:
        out = process.stdout.read()
    process.wait()
    return out


def journal_steps(run_dir):
    return [
        json.loads(item.row)["step"]
        for _, path in segments(run_dir)
        for item in scan(path)
        if isinstance(item, Line) and item.table == "metrics"
    ]


TABLES = ["runs", *record_tables()]


def content(results):
    """Every row of every table that a run writes, in an order of its own."""
    with connect(results) as connection:
        return {
            name: sorted(connection.sql(f'FROM "{name}"').fetchall(), key=repr) for name in TABLES
        }


INGEST_FOREVER = """
import sys
from pathlib import Path
import analysis.warehouse.warehouse as warehouse
from analysis.warehouse.recent import recent_path
runs, results = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
for i in range(100_000):
    recent = recent_path(results)
    warehouse.MOST_COPIED_BYTES = recent.stat().st_size if recent.exists() else 0
    warehouse.ingest(runs, results, fold=i % 5 == 4)
"""

WRITE_FOREVER = """
import random, sys
from pathlib import Path
from analysis.journal.journal import Journal
from analysis.records import Metric
from benchmarks.synthetic import synthetic_info
runs, run_id, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
run_dir = runs / run_id
journal = Journal.resume(run_dir) if run_dir.exists() else Journal.create(runs, synthetic_info(run_id))
while True:
    journal.append(Metric(step=step, name="loss", value=step))
    journal.commit()
    print(step, flush=True)
    step += 1
"""
