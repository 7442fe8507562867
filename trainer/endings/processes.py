"""Several processes on several machines: what they must share, and how the loss of one shows in the others."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from accelerate.utils import gather_object

from trainer.options.config import ConfigError

_SEEN_WITHIN_S = 30.0
"""A file that one machine wrote may show late on another: NFS keeps what it knows of a folder for some seconds."""

_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "Socket Timeout",
)
"""What gloo says in a plain RuntimeError. Source: gloo/transport/tcp/pair.cc and unbound_buffer.cc."""


def check_shared(run_dir: Path, *, within_s: float = _SEEN_WITHIN_S) -> None:
    """Refuse a runs folder that not every process sees: each writes its part of a checkpoint there.

    Raises:
        ConfigError: in every process.
    """
    seen = gather_object([_is_there(run_dir / "run.json", within_s)])
    missing = [str(rank) for rank, there in enumerate(seen) if not there]
    if missing:
        raise ConfigError(
            f"every machine must share the runs folder, got no {str(run_dir)!r} in process {', '.join(missing)}; "
            "put runs_dir on a file system that all of them mount, and give its whole path"
        )


def _is_there(path: Path, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while not path.is_file():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def is_lost_process(error: BaseException) -> bool:
    """Whether an error says that another process of the run is gone, or no longer answers."""
    if isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _LOST)
