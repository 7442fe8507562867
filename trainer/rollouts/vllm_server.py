"""Sampling from a vLLM server of its own (`vllm_mode: server`), which TRL asks and sends the weights to.

TRL 1.14 imports vllm in the training process too, for the addresses and for the transfer of the weights, which goes
over NCCL from one CUDA device to the server's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from trainer.endings.faults import OutsideFault
from trainer.options.config import ConfigError, Options

START = (
    'start it with `VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --weight-transfer-config \'{"backend": "nccl"}\' '
    "--logprobs-mode processed_logprobs --max-logprobs -1`"
)
"""How TRL wants its server. Source: trl/generation/vllm_client.py."""


def check_vllm(options: Options) -> None:
    """Refuse vLLM where it cannot work, before a model is loaded.

    Raises:
        ConfigError: with one line for the user.
    """
    training = options.training
    if not training.use_vllm:
        return
    if find_spec("vllm") is None:
        raise ConfigError(
            "use_vllm must have vllm installed beside sdpo-bench, in the server mode too, got none; install a vllm "
            "that TRL knows (0.20 to 0.30) into this environment, or leave use_vllm out"
        )
    if training.vllm_mode == "server" and (training.use_cpu or not torch.cuda.is_available()):
        raise ConfigError(
            "vllm_mode server must have a CUDA device here, got a CPU: the weights go to the server over NCCL; train "
            "on a GPU, or leave use_vllm out"
        )


@contextmanager
def server_needed() -> Iterator[None]:
    """Within the block, where TRL first looks for its server, one that is not there is the user's to start.

    Raises:
        ConfigError: with one line for the user.
    """
    try:
        yield
    except OSError as error:
        if not _is_of_requests(error):
            raise
        raise ConfigError(f"the vLLM server must answer, got {_line(error)}; {START}") from error


@contextmanager
def server_asked() -> Iterator[None]:
    """Within the block a server that fails is a fault outside the training: the run stops, and can go on.

    Raises:
        OutsideFault: with one line for the user.
    """
    try:
        yield
    except Exception as error:
        # TRL has no type of its own for a status other than 200
        refused = type(error) is Exception and str(error).startswith("Request failed: ")
        if not refused and not _is_of_requests(error):
            raise
        raise OutsideFault(f"the vLLM server must answer, got {_line(error)}") from error


def _is_of_requests(error: BaseException) -> bool:
    """Whether the library that TRL asks its server with gave up."""
    return isinstance(error, OSError) and type(error).__module__.partition(".")[0] == "requests"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
