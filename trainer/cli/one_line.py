"""Faults of the commands that train, as one line for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can mend into one line and exit status 1; a bug stays a traceback.

    Imports torch: enter it after all that can be refused without.
    """
    from evaluator.cli import terminal
    from trainer.endings.faults import OutsideFault
    from trainer.options.config import ConfigError
    from trainer.step.callbacks import NonFinite

    try:
        with terminal.one_line_errors():
            yield
    except (ConfigError, NonFinite, OutsideFault) as error:
        raise click.ClickException(" ".join(str(error).split())) from error
