"""The folder that slots and children see as `/`: the library and nothing else of the container.

Landlock and file modes decide what can be opened; that a file or a process is there `stat` tells in spite of
them. Below this root there is no /proc, no socket, no source of ours and no mark of the engine's to look for.

Run as `python -m sandbox.guest.root` while the image is built. The root is /usr, with a link /usr/usr to itself:
so the library has the same paths on both sides.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys

ROOT = "/usr"
_DEVICES = {"null": (1, 3), "zero": (1, 5), "random": (1, 8), "urandom": (1, 9)}


def main() -> None:
    """Make the root, in an image that is being built."""
    import shutil  # not in the supervisor, which imports this module: children share its memory

    os.symlink(".", os.path.join(ROOT, "usr"))
    if not os.path.islink("/lib"):  # an image that keeps a part of its libraries there
        shutil.copytree("/lib", os.path.join(ROOT, "lib"), symlinks=True, dirs_exist_ok=True)
    devices = os.path.join(ROOT, "dev")
    os.mkdir(devices)
    os.umask(0)
    for name, (major, minor) in _DEVICES.items():
        # A builder without the capability leaves programs without devices: the library needs none.
        with contextlib.suppress(PermissionError):
            os.mknod(os.path.join(devices, name), 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    # The engine's init stands among the system's commands.
    os.chmod(os.path.join(ROOT, "sbin"), 0o700)
    check(ROOT)


def check(root: str) -> None:
    """Exit unless this interpreter's library is below `root` under the path that it has here."""
    library = os.path.dirname(os.path.realpath(os.__file__))
    inside = root + library
    if not os.path.exists(inside) or not os.path.samefile(library, inside):
        sys.exit(f"{inside} must be {library}, got another; build the image again")


if __name__ == "__main__":
    main()
