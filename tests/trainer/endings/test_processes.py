import pytest
import torch

from trainer.endings import processes
from trainer.endings.processes import check_shared, is_lost_process
from trainer.options.config import ConfigError
from trainer.training.run_journal import SilentJournal


def test_a_runs_folder_that_one_machine_does_not_see_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "gather_object", lambda seen: [*seen, False, True, False])
    (tmp_path / "run.json").touch()
    with pytest.raises(ConfigError, match=r"must share the runs folder, .* in process 1, 3; put"):
        check_shared(tmp_path)


def test_a_file_that_shows_late_is_waited_for(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "gather_object", lambda seen: seen)
    monkeypatch.setattr(processes.time, "sleep", lambda s: (tmp_path / "run.json").touch())
    check_shared(tmp_path)


def test_a_file_that_never_shows_is_not_waited_for_for_ever(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "gather_object", lambda seen: seen)
    with pytest.raises(ConfigError, match="in process 0"):
        check_shared(tmp_path, within_s=0.01)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:2"), True),
        (RuntimeError("[../gloo/tcp/pair.cc] Read error: Connection reset by peer"), True),
        (RuntimeError("Timed out waiting 1800000ms for recv operation to complete"), True),
        (torch.distributed.DistBackendError("NCCL error: remote process exited"), True),
        (RuntimeError("CUDA out of memory"), False),
        (ValueError("Connection closed by peer"), False),
    ],
)
def test_the_loss_of_another_process_is_known_by_what_the_backends_say(error, lost):
    assert is_lost_process(error) is lost


def test_a_process_that_writes_no_journal_can_end_as_one_that_does():
    SilentJournal(None, None).finish("stopped", "why")
