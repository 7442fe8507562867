"""Who may come in: a bounded number of requests, so many of them at work, the others in order of arrival.

All of it runs in one event loop and holds no lock. Nothing here knows what a request is.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Full(Exception):
    """There is no room, or a turn did not come in time: try again later."""


class Closing(Exception):
    """The server stops: nobody else is let in."""


class Door:
    """Counts requests in the house and lets them take turns."""

    def __init__(self, *, n_at_work: int, n_waiting: int, max_bytes: int) -> None:
        """Open.

        Args:
            n_at_work: requests that run at a time.
            n_waiting: further requests that may wait for their turn.
            max_bytes: of the bodies of all requests in the house.
        """
        self.n_at_work, self.n_inside, self.n_bytes = 0, 0, 0
        self._limits = n_at_work, n_at_work + n_waiting, max_bytes
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.closing = False

    @property
    def n_waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

    def enter(self, n_bytes: int) -> None:
        """Let a request in whose body has at most `n_bytes`; `leave` must follow.

        Raises:
            Closing: the server stops.
            Full: no room for one more, or for so many bytes.
        """
        _, n_inside, max_bytes = self._limits
        if self.closing:
            raise Closing
        if self.n_inside >= n_inside or (self.n_inside and self.n_bytes + n_bytes > max_bytes):
            raise Full
        self.n_inside += 1
        self.n_bytes += n_bytes

    def leave(self, n_bytes: int) -> None:
        """Let a request out."""
        self.n_inside -= 1
        self.n_bytes -= n_bytes

    async def turn(self, *, timeout_s: float) -> None:
        """Wait for a turn; `done` must follow.

        Raises:
            Closing: the server stops.
            Full: the turn did not come in time.
        """
        if self.closing:
            raise Closing
        if self.n_at_work < self._limits[0]:
            self.n_at_work += 1
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(mine)
        except TimeoutError:
            self._withdraw(mine)
            raise Full from None
        except asyncio.CancelledError:
            self._withdraw(mine)
            raise

    def done(self) -> None:
        """Give the turn to whoever has waited longest."""
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self.n_at_work -= 1

    def close(self) -> None:
        """Send away who waits, and let nobody else in; what is at work goes on."""
        self.closing = True
        while self._waiting:
            self._waiting.popleft().set_exception(Closing())

    def _withdraw(self, mine: asyncio.Future[None]) -> None:
        """Leave the line; a turn that came at the same moment goes to the next."""
        if mine in self._waiting:
            self._waiting.remove(mine)
        elif mine.done() and not mine.cancelled() and mine.exception() is None:
            self.done()
