"""What a listed bug is: one of the kind that a maintainer makes, which some test must see.

They are planted beside the chosen ones. `before` stands exactly once in the packages, whatever the file is called.
"""

from __future__ import annotations

from typing import NamedTuple


class Bug(NamedTuple):
    """One listed bug."""

    area: str
    what: str
    """What is then wrong."""
    before: str
    after: str
