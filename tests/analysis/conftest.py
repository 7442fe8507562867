"""A small results folder that looks real, made once a session; tests that write copy it."""

import random
import shutil

import pytest

from analysis.journal import Journal
from analysis.synthetic import eval_records, gap_records, synthetic_info, write_training_run
from analysis.warehouse import ingest


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """Folder with runs/ (grpo, sdpo, audit, two evaluations) and results/results.duckdb."""
    folder = tmp_path_factory.mktemp("recorded")
    runs = folder / "runs"
    for algorithm, seed, gain in (("sdpo", 42, 0.14), ("grpo", 42, 0.08), ("sdpo", 43, 0.14)):
        write_training_run(
            runs,
            f"train-{algorithm}-{seed}",
            algorithm=algorithm,
            seed=seed,
            gain=gain,
            n_steps=12,
            eval_every=6,
            n_problems=60,
        )
    write_training_run(runs, "train-audit-42", algorithm="audit", n_steps=6, eval_every=0)
    for label, parent, n_samples in (("base", None, 1), ("sampled", "train-sdpo-42", 4)):
        info = synthetic_info(
            f"eval-{label}", algorithm=None, kind="eval", label=label, parent_run_id=parent
        )
        with Journal.create(runs, info) as journal:
            rng = random.Random(label)
            for record in eval_records(
                rng, step=None, skill=0.45, n_problems=60, n_samples=n_samples
            ):
                journal.append(record)
    info = synthetic_info("eval-gap", algorithm=None, kind="eval", label="gap")
    with Journal.create(runs, info) as journal:
        for record in gap_records(random.Random("gap"), n_problems=60):
            journal.append(record)
    ingest(runs, folder / "results" / "results.duckdb")
    return folder


@pytest.fixture
def recorded_copy(recorded, tmp_path):
    """A copy of `recorded` that a test may change."""
    return shutil.copytree(recorded, tmp_path / "recorded")
