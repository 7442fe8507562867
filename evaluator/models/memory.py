"""Recognises out-of-memory errors, so that one line can say so and name settings that need less."""

from __future__ import annotations

_SIGNS = ("CUDA out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Of torch's messages: CUDA's and the CPU's allocator, and cuBLAS, whose workspace found no room."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch found no memory, on a GPU or here."""
    return type(error).__name__ == "OutOfMemoryError" or any(sign in str(error) for sign in _SIGNS)


def what_was_asked(error: BaseException) -> str:
    """Torch's message as far as it says how much; the rest is advice on its allocator."""
    line = " ".join(str(error).split())
    for rest in (" Of the allocated memory", " If reserved but unallocated", " Error code"):
        line = line.split(rest)[0]
    return line[:300].rstrip(". ")
