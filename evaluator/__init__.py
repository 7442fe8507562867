"""What a problem asks and how an answer is graded; evaluation of policies.

`trl_reward` and `make_trl_reward` are reward functions for anyone's TRL trainer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluator.integrations.trl import make_trl_reward, trl_reward

__all__ = ["make_trl_reward", "trl_reward"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute may be anything
    """Import what is named only when it is asked for: the package itself stays light."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from evaluator.integrations import trl

    return getattr(trl, name)
