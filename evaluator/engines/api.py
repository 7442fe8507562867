"""Samples completions from a model that is served at OpenAI-compatible URLs, such as vLLM's."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

from analysis.task_ids import TaskId
from evaluator.engines.servers import Api, ApiError, Servers
from evaluator.engines.threads import side_by_side
from evaluator.problems.mbpp import Problem
from evaluator.problems.prompt import Protocol, conversation
from evaluator.sampling.batches import wanted
from evaluator.sampling.completions import Answer
from evaluator.sampling.model import Decoding

__all__ = ["Api", "ApiError", "sample_served"]


def sample_served(
    problems: Sequence[Problem],
    api: Api,
    *,
    protocol: Protocol,
    shots: Sequence[Problem],
    decoding: Decoding,
    n_at_once: int,
    done: Collection[tuple[TaskId, int]] = (),
) -> Iterator[list[Answer]]:
    """Yield answers of a served model, `n_at_once` at a time and in order; see `SamplingPlan`.

    So many requests are always under way, at all servers together: nobody waits for the slowest of a batch.

    Raises:
        ApiError: the servers refuse, give no JSON, or fail on every try. What was yielded before
            stays.
    """
    servers = Servers(api)

    def ask(item: tuple[Problem, int]) -> Answer:
        problem, sample_index = item
        asked = conversation(problem, protocol, tuple(shots))
        request = {"model": api.model, **_settings(decoding, sample_index)}
        if protocol.stop:
            request["stop"] = list(protocol.stop)
        plain = isinstance(asked, str)
        request["prompt" if plain else "messages"] = asked
        path = "completions" if plain else "chat/completions"
        text, n_tokens, truncated = servers.ask(path, request, partial(_read, plain=plain))
        prompt = asked if isinstance(asked, str) else asked[-1]["content"]
        return Answer(problem, text, sample_index, prompt, n_tokens, truncated)

    with side_by_side(n_at_once) as pool:
        batch: list[Answer] = []
        try:
            for answer in pool.map(ask, wanted(problems, decoding, done)):
                batch.append(answer)
                if len(batch) == n_at_once:
                    yield batch
                    batch = []
        except ApiError:
            if batch:
                yield batch
            raise
        if batch:
            yield batch
    if len(api.base_urls) > 1:
        gave = ", ".join(f"{url} {n}" for url, n in servers.n_answered.items())
        api.say(f"answers by server: {gave}")


def _settings(decoding: Decoding, sample_index: int) -> dict[str, Any]:
    return {
        "max_tokens": decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "seed": decoding.seed + sample_index,
        "n": 1,
    }


def _read(response: dict[str, Any], *, plain: bool) -> tuple[str, int | None, bool]:
    """Text of a completion, its count of tokens, and whether the length limit ended it.

    Raises:
        ValueError: it is not in the form of the interface.
    """
    try:
        choice = response["choices"][0]
        text = _text(choice["text"] if plain else _content(choice["message"]))
        is_cut = choice.get("finish_reason") == "length"
        return text, _n_tokens(response.get("usage")), is_cut
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            "the server must answer in the OpenAI form with choices, got "
            f"{json.dumps(response)[:200]!r}; check --api-base"
        ) from error


def _content(message: dict[str, Any]) -> object:
    """What a message says; one that only calls tools may leave its content out."""
    return message.get("content") if "tool_calls" in message else message["content"]


def _text(content: object) -> str:
    """The text of a completion, which some servers send in parts, and null where it is empty.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(content, list):
        # Parts of other types, thinking among them, hold their words under other names.
        return "".join(_text(part["text"]) for part in content if part["type"] == "text")
    if content is None or isinstance(content, str):
        return content or ""
    raise TypeError("no text")


def _n_tokens(usage: object) -> int | None:
    n = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return n if isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**31 else None
