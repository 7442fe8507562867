"""Files and names that are on disk, whatever happens afterwards."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import time
from pathlib import Path
from typing import BinaryIO


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that, after a crash, it is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def remove_abandoned(folder: Path, names: str, *, older_than_s: float = 0.0) -> None:
    """Remove temporary files and folders whose names match and whose writers are gone: nobody holds their lock."""
    for path in (folder / name for name in filter(re.compile(names).fullmatch, os.listdir(folder))):
        with contextlib.suppress(OSError):  # held, or removed by another process meanwhile
            if time.time() - path.stat().st_mtime < older_than_s:
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(path)
            finally:
                os.close(descriptor)


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading; what is none, such as a pipe that nobody writes, would be waited for for ever.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "what stands there is no file", str(path))
    return os.fdopen(descriptor, "rb")


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def output_place(path: Path) -> Path:
    """Return where an output file goes: where a link leads, so that the link stays.

    Raises:
        OSError: what stands there is no file, such as a device or a pipe: it must not be replaced by one.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "what stands there is no file")
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_output(path: Path) -> None:
    """Find out before any work is done that an output file could not be written.

    Raises:
        OSError: see `output_place`; or its folder takes no files.
    """
    if not os.access(output_place(path.absolute()).parent, os.W_OK):
        raise OSError(errno.EACCES, "its folder takes none")
