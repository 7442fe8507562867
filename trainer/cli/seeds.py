"""The option `--seeds` of the commands that train several times."""

from __future__ import annotations

from functools import partial

import click


class Seeds(click.ParamType[tuple[int, ...]]):
    """Different whole numbers, apart by commas, as a tuple."""

    name = "N,N,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read the numbers."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        known = all(word.isascii() and word.isdecimal() and len(word) < 10 for word in words)
        if not known or len({int(word) for word in words}) < len(words):
            self.fail(f"must be different whole numbers apart by commas, got {value!r}", param, ctx)
        return tuple(map(int, words))


seeds_option = partial(click.option, "--seeds", type=Seeds(), show_default=True)
