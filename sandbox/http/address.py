"""The address of a server: read, checked, and written as a user writes it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from sandbox.program import SandboxError

TOKEN_VARIABLE = "SDPO_BENCH_SANDBOX_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True)
class Address:
    """Where a server is."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """As a user writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def is_url(backend: str) -> bool:
    """Whether a sandbox's name is the address of a server."""
    return backend.startswith(("http://", "https://"))


def parse_url(url: str) -> Address:
    """Return the address of a server.

    Raises:
        SandboxError: not http://HOST:PORT or https://HOST:PORT.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        plain = not (parts.path.strip("/") or parts.query or parts.fragment)
    except ValueError:  # a port that is no number, a bracket that is not closed
        parts, port, plain = urlsplit(""), 0, False
    if "@" in parts.netloc:
        # It would be stored with the run.
        raise SandboxError(
            f"a sandbox's address must hold no password, got one; set {TOKEN_VARIABLE} instead"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise SandboxError(f"a sandbox's address must be http://HOST:PORT, got {url[:200]!r}")
    return Address(parts.scheme, parts.hostname, port)
