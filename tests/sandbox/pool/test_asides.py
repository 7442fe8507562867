from sandbox.pool import asides
from sandbox.program import Program
from tests.sandbox.conftest import verdicts


def asking(n):
    """A program whose assert needs a value of the interpreter that nobody asked for before."""
    return Program(
        "def f(): return 1", (f"assert f() == sys.getsizeof({n}) - sys.getsizeof({n}) + 1",), ("f",)
    )


def test_values_of_the_interpreter_are_kept_up_to_a_bound_and_verdicts_stay_right(
    pool, monkeypatch
):
    monkeypatch.setattr(asides, "MAX_KEPT", 3)
    before = len(pool._asides.known)
    assert before <= 3
    for n in range(1000, 1005):
        assert verdicts(pool.run([asking(n)])) == ["passed"]
        assert len(pool._asides.known) <= 3
    assert verdicts(pool.run([asking(n) for n in range(2000, 2008)])) == ["passed"] * 8
