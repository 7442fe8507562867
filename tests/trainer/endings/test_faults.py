import errno
import resource

import pytest
import torch

from analysis.journal.journal import StoreError
from sandbox.program import SandboxError
from trainer.endings.faults import OutsideFault, Patience, is_outside


class Failing:
    """Fails with one error `n` times, then works."""

    def __init__(self, error, n):
        self.error, self.n, self.calls = error, n, 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.n:
            raise self.error
        return "done"


FAULTS = [
    SandboxError("the engine must answer, got nothing"),
    StoreError("the journal must be writable"),
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError(
        "[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file"
    ),
    Exception("I/O error: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FAULTS, ids=lambda e: type(e).__name__)
def test_a_fault_that_passes_is_waited_out_with_longer_and_longer_waits(error):
    slept, said = [], []
    patience = Patience(60.0, said.append, slept.append)
    assert patience(Failing(error, 3), "grading") == "done"
    assert slept == [1.0, 2.0, 4.0]
    assert len(said) == 3 and said[0].startswith("grading failed: ")


@pytest.mark.parametrize("n_tensors", [0, 1, 30])
@pytest.mark.parametrize("n_bytes", [0, 500, 4096, 50_000])
def test_a_file_of_torch_that_does_not_fit_is_waited_for_however_much_of_it_is_written(
    tmp_path, n_tensors, n_bytes
):
    content = {str(n): torch.zeros(900) for n in range(n_tensors)} or {"lr": 0.1, "b": "x" * 60_000}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (min(n_bytes, 3000 * n_tensors or n_bytes), limits[1])
    )
    try:
        with pytest.raises(RuntimeError) as caught:
            torch.save(content, str(tmp_path / "state.pt"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert is_outside(caught.value)
    with pytest.raises(
        OutsideFault, match="saving must work, got a file that could not be written"
    ):
        Patience(0.0, lambda line: None)(Failing(caught.value, 1), "saving")


def test_a_fault_that_stays_ends_in_one_line_after_the_patience():
    slept = []
    patience = Patience(10.0, lambda line: None, slept.append)
    with pytest.raises(OutsideFault, match="grading must work, got the engine") as caught:
        patience(Failing(FAULTS[0], 99), "grading")
    assert sum(slept) == 10.0
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        KeyError("x"),
        OSError(errno.ENOENT, "No such file"),
        RuntimeError("CUDA"),
    ],
)
def test_a_bug_is_not_waited_for(error):
    assert not is_outside(error)
    slept = []
    with pytest.raises(type(error)):
        Patience(60.0, slept.append, slept.append)(Failing(error, 1), "grading")
    assert slept == []


def test_no_patience_means_one_try():
    action = Failing(FAULTS[0], 1)
    with pytest.raises(OutsideFault):
        Patience(0.0, lambda line: None)(action, "grading")
    assert action.calls == 1
