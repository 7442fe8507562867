"""What the Ray engine makes of nodes that fail, with a stand-in for Ray; test_ray.py has the real one."""

from types import SimpleNamespace

import pytest

from evaluator.engines import ray_engine
from evaluator.engines.ray_engine import EngineError, RayEngine
from evaluator.engines.worker import Facts, Work
from evaluator.problems.mbpp import load_problems
from evaluator.sampling.completions import Answer
from evaluator.sampling.model import ModelError
from sandbox.program import SandboxError

PROBLEMS = load_problems("embedded/test")
WORK = Work(PROBLEMS, tuple(Answer(problem, "x") for problem in PROBLEMS.problems))
N_BATCHES = 4


class RayError(Exception):
    pass


class ActorDiedError(RayError):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class FakeRay:
    """A cluster whose nodes answer by a script: node -> what a call gives, or raises."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, **nodes):
        self.script = nodes
        self.killed, self.calls = [], []
        self.util = SimpleNamespace(
            scheduling_strategies=SimpleNamespace(
                NodeAffinitySchedulingStrategy=lambda node, soft: node
            )
        )

    def put(self, work):
        return work

    def nodes(self):
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 4.0}} for name in self.script]

    def remote(self, kind):
        return SimpleNamespace(options=self._options)

    def _options(self, *, scheduling_strategy, **_):
        node = scheduling_strategy
        actor = SimpleNamespace(
            prepare=SimpleNamespace(remote=lambda: self._call(node, None)),
            graded=SimpleNamespace(remote=lambda index: self._call(node, index)),
        )
        return SimpleNamespace(remote=lambda *args: actor)

    def _call(self, node, index):
        self.calls.append((node, index))
        return (len(self.calls), node, index)

    def wait(self, calls, *, num_returns, timeout):
        return calls[:num_returns], calls[num_returns:]

    def get(self, call):
        _, node, index = call
        given = self.script[node](index)
        if isinstance(given, Exception):
            raise given
        return given

    def kill(self, actor):
        self.killed.append(actor)

    def shutdown(self):
        pass


def well(index, facts=Facts("process", N_BATCHES)):  # noqa: B008 - frozen
    return facts if index is None else [f"batch {index}"]


def dying_at(*indices):
    return lambda index: ActorDiedError("gone") if index in indices else well(index)


def done(monkeypatch, ray, **options):
    monkeypatch.setattr(ray_engine, "_connect", lambda address: ray)
    told = []
    with RayEngine(WORK, backend="process", say=told.append, **options) as engine:
        return list(engine.batches()), told


def in_order():
    return [[f"batch {index}"] for index in range(N_BATCHES)]


def test_batches_come_in_order_whoever_does_them(monkeypatch):
    ray = FakeRay(a=well, b=well)
    assert done(monkeypatch, ray)[0] == in_order()
    assert {node for node, index in ray.calls if index is not None} == {"a", "b"}


def test_a_batch_whose_node_dies_is_done_by_another(monkeypatch):
    found, told = done(monkeypatch, FakeRay(a=dying_at(0, 1, 2, 3), b=well))
    assert found == in_order()
    assert "done elsewhere" in told[0]


def test_every_accepted_batch_was_asked_for_once_more_only_where_it_was_lost(monkeypatch):
    ray = FakeRay(a=dying_at(0), b=well)
    done(monkeypatch, ray)
    asked = sorted(index for _, index in ray.calls if index is not None)
    assert asked == [0, 0, 1, 2, 3]


def test_a_batch_that_ends_every_worker_stops_the_run(monkeypatch):
    with pytest.raises(EngineError, match=r"batch 2 lost again .* --resume"):
        done(monkeypatch, FakeRay(a=dying_at(2), b=dying_at(2)))


def test_a_node_with_a_broken_sandbox_is_left_out(monkeypatch):
    def broken(index):
        return RayTaskError(SandboxError("no engine")) if index is not None else well(index)

    found, told = done(monkeypatch, FakeRay(a=broken, b=well))
    assert found == in_order()
    assert "no engine" in told[0]


def test_sandboxes_broken_everywhere_are_the_sandboxes_error(monkeypatch):
    broken = RayTaskError(SandboxError("no engine"))
    with pytest.raises(SandboxError, match="no engine"):
        done(monkeypatch, FakeRay(a=lambda _: broken, b=lambda _: broken))


def test_a_model_that_cannot_load_is_the_models_error_at_once(monkeypatch):
    ray = FakeRay(a=lambda _: RayTaskError(ModelError("no such model")), b=well)
    with pytest.raises(ModelError, match="no such model"):
        done(monkeypatch, ray)


def test_a_node_with_another_model_takes_no_part(monkeypatch):
    def other(index):
        return well(index, Facts("process", N_BATCHES, model_sha256="other"))

    ray = FakeRay(a=well, b=other)
    found, told = done(monkeypatch, ray)
    assert found == in_order()
    assert {node for node, index in ray.calls if index is not None} == {"a"}
    assert "differ from those of the first node" in told[0]


def test_placement_may_differ(monkeypatch):
    def other(index):
        return well(index, Facts("process", N_BATCHES, placement=(("device", "cuda:0"),)))

    ray = FakeRay(a=well, b=other)
    done(monkeypatch, ray)
    assert {node for node, index in ray.calls if index is not None} == {"a", "b"}


def test_a_cluster_without_a_usable_node_is_one_line(monkeypatch):
    with pytest.raises(EngineError, match="some node must be able to work, got none"):
        done(monkeypatch, FakeRay(), start_timeout_s=0.3)


def test_a_node_that_joins_later_is_given_work(monkeypatch):
    class Growing(FakeRay):
        def nodes(self):
            joined = any(index is not None for _, index in self.calls)
            return [node for node in super().nodes() if joined or node["NodeID"] == "a"]

    monkeypatch.setattr(ray_engine, "_LOOK_EVERY_S", 0.0)
    ray = Growing(a=well, late=well)
    assert done(monkeypatch, ray)[0] == in_order()
    assert "late" in {node for node, index in ray.calls if index is not None}


def test_a_head_without_processors_is_given_none(monkeypatch):
    class WithHead(FakeRay):
        def nodes(self):
            head = {"NodeID": "head", "Alive": True, "Resources": {"node:head": 1.0}}
            return [head, *super().nodes()]

    ray = WithHead(a=well)
    assert done(monkeypatch, ray)[0] == in_order()
    assert {node for node, _ in ray.calls} == {"a"}


def test_workers_are_let_go_also_after_a_failure(monkeypatch):
    ray = FakeRay(a=lambda _: RayTaskError(ModelError("x")), b=well)
    with pytest.raises(ModelError):
        done(monkeypatch, ray)
    assert len(ray.killed) == 2


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install .*\[ray\]"):
        RayEngine(WORK, backend="process")
