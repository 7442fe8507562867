"""A two-node Ray cluster on this machine gives the local engine's rows, and outlives one of its nodes."""

import json

import pytest
from click.testing import CliRunner

from analysis.journal.journal import Journal, segments
from analysis.journal.lines import scan
from analysis.provenance import Named, run_info
from evaluator.engines.ray_engine import RayEngine
from evaluator.engines.worker import Sampling, Work, Worker
from evaluator.evaluation.evaluate import record
from evaluator.problems.mbpp import load_problems
from evaluator.problems.prompt import MBPP
from evaluator.sampling.completions import Answer
from evaluator.sampling.policy import Decoding
from sandbox.client import open_sandbox
from sdpo_bench import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROBLEMS = load_problems("embedded/test")
N_SAMPLES = 24
MEASURED = {"cpu_ms", "wall_ms", "peak_memory_bytes"}
"""What differs from one execution of a program to the next."""


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """A head without processors, to which the test connects, and two nodes that can be lost."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    head = {"num_cpus": 0, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def slow_answers():
    """Six batches of recorded answers that take a second or two each; every third is wrong."""
    answers = []
    for problem in PROBLEMS.problems:
        for index in range(N_SAMPLES):
            code = f"import time\ntime.sleep(0.1)\n{problem.reference}"
            if index % 3 == 0:
                code = f"# {index}\n"
            answers.append(Answer(problem, f"```python\n{code}\n```", index))
    return tuple(answers)


def tiny_work(tiny_folder):
    return Work(
        PROBLEMS,
        sampling=Sampling(
            model=str(tiny_folder),
            adapter=None,
            protocol=MBPP,
            shots=(),
            decoding=Decoding(max_new_tokens=24, temperature=1.0, n_samples=2),
            batch_size=5,
            device="cpu",
        ),
    )


def local_batches(work):
    with open_sandbox("process") as sandbox:
        worker = Worker(work, sandbox)
        return [worker.graded(index) for index in range(worker.facts.n_batches)]


def content(batches):
    """All that must be the same, whoever did the work."""
    return [
        [(item.answer, item.grade.extraction, item.grade.execution.results) for item in batch]
        for batch in batches
    ]


def test_the_cluster_gives_the_rows_of_the_local_engine_in_its_order(cluster, tiny_folder):
    work = tiny_work(tiny_folder)
    with RayEngine(work, backend="process", address=cluster.address) as engine:
        facts = engine.facts()
        found = list(engine.batches())
    assert facts.n_batches == len(found) == 7
    assert facts.model == str(tiny_folder)
    assert len(facts.model_sha256) == 64
    assert content(found) == content(local_batches(work))


@pytest.mark.long
def test_a_node_killed_in_the_middle_costs_nothing_and_doubles_nothing(cluster, tmp_path):
    answers = slow_answers()
    work, told, killed = Work(PROBLEMS, answers), [], []

    def batches(engine):
        for batch in engine.batches():
            yield batch
            busy = [hand for hand in engine._hands if hand.index is not None]
            if not killed and busy and all(hand.ready for hand in engine._hands):
                (node,) = (n for n in cluster.worker_nodes if n.node_id == busy[0].node)
                cluster.remove_node(node, allow_graceful=False)
                killed.append(node)

    info = run_info(
        kind="eval",
        label="x",
        config={},
        dataset=PROBLEMS,
        protocol=Named("recorded", "0" * 64),
        sandbox="process",
    )
    options = {"backend": "process", "address": cluster.address, "say": told.append}
    with Journal.create(tmp_path / "runs", info) as journal, RayEngine(work, **options) as engine:
        summary = record(
            PROBLEMS,
            batches(engine),
            journal=journal,
            eval_id="final",
            label="x",
            protocol="recorded",
            decoding="recorded",
        )
    assert killed
    assert any("is done elsewhere" in line for line in told), told
    rows = [row for row in stored(journal.run_dir) if row[0] == "eval_results"]
    keys = [(row["task_id"], row["sample_index"]) for _, row in rows]
    assert keys == [(a.problem.task_id, a.sample_index) for a in answers]
    assert sum(row["passed"] for _, row in rows) == 16 * N_SAMPLES * 2 // 3
    assert summary.n_samples == N_SAMPLES


def test_the_command_writes_what_it_writes_without_a_cluster(
    cluster, tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    common = ["eval", "--dataset", "embedded/test", "--model", str(tiny_folder), "--limit", "9"]
    common += ["--max-new-tokens", "9", "--batch-size", "4", "--sandbox", "process"]
    runs = {}
    for engine, more in (("local", []), ("ray", ["--ray-address", cluster.address])):
        options = [*common, "--runs-dir", engine, "--engine", engine, *more]
        result = CliRunner().invoke(main, options, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        (run,) = (tmp_path / engine).iterdir()
        runs[engine] = [
            (table, {key: value for key, value in row.items() if key not in MEASURED})
            for table, row in stored(run)
            if table in ("eval_results", "executions", "test_results")
        ]
    assert runs["ray"] == runs["local"]
    assert len(runs["ray"]) == 9 * (1 + 1 + 3)


def stored(run_dir):
    """(table, row) of every line of a run's journal, in order."""
    return [
        (line.table, json.loads(line.row)) for _, path in segments(run_dir) for line in scan(path)
    ]
