"""Any order of writing, kills and ingests agrees with a dictionary."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from analysis.journal.journal import Journal
from analysis.journal.lines import encode
from analysis.records import (
    Metric,
    RunState,
)
from analysis.warehouse.warehouse import ingest
from benchmarks.synthetic import synthetic_info
from tests.analysis.warehouse.stored import rows
from tests.scale import examples


class JournalAndWarehouse(RuleBasedStateMachine):
    """Any order of appends, commits, kills, resumes, rewinds and ingests agrees with a dictionary."""

    @initialize(folder=st.just(None))
    def start(self, folder):
        import tempfile
        from pathlib import Path

        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.results = self.folder / "results.duckdb"
        self.journal = Journal.create(self.folder / "runs", synthetic_info("a"))
        self.committed, self.pending = {}, {}

    @rule(step=st.integers(0, 4), name=st.sampled_from("ab"), value=st.integers(0, 99))
    def append(self, step, name, value):
        self.journal.append(Metric(step=step, name=name, value=value))
        self.pending[step, name] = float(value)

    @rule()
    def commit(self):
        self.journal.commit()
        self.committed |= self.pending
        self.pending = {}

    @rule(step=st.none() | st.integers(0, 4), torn=st.booleans())
    def kill_and_resume(self, step, torn):
        self.journal._release()
        if torn:
            with self.journal.path.open("ab") as file:
                file.write(encode(RunState.table, b'{"attempt":0}')[:-3])
        self.pending = {}
        self.journal = Journal.resume(self.journal.run_dir, step=step)
        if step is not None:
            self.committed = {key: v for key, v in self.committed.items() if key[0] <= step}

    @precondition(lambda self: hasattr(self, "journal"))
    @rule(rebuild=st.booleans())
    def ingested_rows_are_the_committed_ones(self, rebuild):
        ingest(self.folder / "runs", self.results, rebuild=rebuild)
        stored = rows(self.results, "SELECT step, name, value FROM metrics")
        assert {(step, name): value for step, name, value in stored} == self.committed
        assert len(stored) == len(self.committed)

    @invariant()
    def the_run_has_one_folder(self):
        if hasattr(self, "folder"):
            assert [p.name for p in (self.folder / "runs").iterdir()] == ["a"]

    def teardown(self):
        if hasattr(self, "journal"):
            self.journal._release()
            self.temporary.cleanup()


TestJournalAndWarehouse = JournalAndWarehouse.TestCase
TestJournalAndWarehouse.settings = settings(
    max_examples=examples(16),
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
