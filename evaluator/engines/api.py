"""Samples completions from a model that is served at an OpenAI-compatible URL, such as vLLM's."""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.task_ids import TaskId
from evaluator.engines.threads import side_by_side
from evaluator.problems.mbpp import Problem
from evaluator.problems.prompt import Protocol, conversation
from evaluator.sampling.completions import Answer
from evaluator.sampling.model import Decoding

_MAX_RESPONSE_BYTES = 16 << 20
"""A longer response is refused: it is no completion."""

_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
"""Statuses after which a later try can succeed."""

_MAX_WAIT_S = 60.0
"""Longest wait between two tries, whatever the server asks for."""


class ApiError(Exception):
    """The server did not give a completion; the message says what it gave."""


@dataclass(frozen=True)
class Api:
    """A served model."""

    base_url: str
    """e.g. `http://localhost:8000/v1`."""
    model: str
    """Name under which the server knows it."""
    key: str | None = None
    """Sent as a bearer token; never stored."""
    timeout_s: float = 300.0
    """Time limit of one request, in seconds."""
    n_tries: int = 6
    """Requests made for one completion before giving up."""
    wait: Callable[[float], None] = time.sleep
    """Waits so many seconds between two tries."""


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
    """Yield answers of a served model, `n_at_once` requests at a time; see `SamplingPlan`.

    Raises:
        ApiError: the server refuses, gives no JSON, or fails on every try. What was yielded before
            stays.
    """
    wanted = [
        (problem, sample_index)
        for problem in problems
        for sample_index in range(decoding.n_samples)
        if (problem.task_id, sample_index) not in done
    ]

    def ask(item: tuple[Problem, int]) -> Answer:
        problem, sample_index = item
        return _answer(
            problem,
            conversation(problem, protocol, tuple(shots)),
            api,
            protocol=protocol,
            decoding=decoding,
            sample_index=sample_index,
        )

    with side_by_side(n_at_once) as pool:
        for start in range(0, len(wanted), n_at_once):
            yield list(pool.map(ask, wanted[start : start + n_at_once]))


def _answer(
    problem: Problem,
    asked: list[dict[str, str]] | str,
    api: Api,
    *,
    protocol: Protocol,
    decoding: Decoding,
    sample_index: int,
) -> Answer:
    """Request one completion."""
    request: dict[str, Any] = {
        "model": api.model,
        "max_tokens": decoding.max_new_tokens,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "seed": decoding.seed + sample_index,
        "n": 1,
    }
    if protocol.stop:
        request["stop"] = list(protocol.stop)
    if isinstance(asked, str):
        response = _post(api, "completions", {**request, "prompt": asked})
    else:
        response = _post(api, "chat/completions", {**request, "messages": asked})
    try:
        choice = response["choices"][0]
        text = choice["text"] if isinstance(asked, str) else choice["message"]["content"]
        reason = choice.get("finish_reason")
        n_tokens = (response.get("usage") or {}).get("completion_tokens")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ApiError(
            "the server must answer in the OpenAI form with choices, got "
            f"{json.dumps(response)[:200]!r}; check --api-base"
        ) from error
    return Answer(
        problem=problem,
        # Some servers send null for an empty completion.
        completion=text if isinstance(text, str) else "",
        sample_index=sample_index,
        prompt=asked if isinstance(asked, str) else asked[-1]["content"],
        n_tokens=n_tokens if isinstance(n_tokens, int) else None,
        truncated=reason == "length",
    )


def _post(api: Api, path: str, content: dict[str, Any]) -> dict[str, Any]:
    """Send one request, again where a later try can help."""
    url = f"{api.base_url.rstrip('/')}/{path}"
    if not url.startswith(("http://", "https://")):
        raise ApiError(
            f"--api-base must begin with http:// or https://, got {api.base_url!r}; correct it"
        )
    headers = {"Content-Type": "application/json"}
    if api.key:
        headers["Authorization"] = f"Bearer {api.key}"
    body = json.dumps(content).encode()
    failure, pause_s = "", 0.0
    for attempt in range(api.n_tries):
        if attempt:
            api.wait(pause_s)
        request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - checked
        try:
            with urllib.request.urlopen(request, timeout=api.timeout_s) as response:  # noqa: S310
                return _decoded(response.read(_MAX_RESPONSE_BYTES + 1), url)
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in _RETRIED:
                    said = " ".join(error.read(2000).decode("utf-8", "replace").split())[:200]
                    raise ApiError(
                        f"the server must accept the request, got status {error.code} from {url} "
                        f"({said!r}); check --api-base, --model and OPENAI_API_KEY"
                    ) from error
                failure = f"status {error.code}"
                pause_s = _pause(attempt, error.headers.get("Retry-After"))
        except (OSError, http.client.HTTPException) as error:
            failure = " ".join(str(error).split())[:200] or type(error).__name__
            pause_s = _pause(attempt, None)
    raise ApiError(
        f"the server must answer, got {failure!r} from {url} on each of {api.n_tries} tries; what "
        "was answered before is kept: go on with --resume when it answers again"
    )


def _decoded(body: bytes, url: str) -> dict[str, Any]:
    """The JSON object of a response."""
    try:
        content = json.loads(body) if len(body) <= _MAX_RESPONSE_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ApiError(
            f"the server must answer with a JSON object, got {body[:60]!r} from {url}; "
            "check that --api-base names the API, often with /v1 at its end"
        )
    return content


def _pause(attempt: int, retry_after: str | None) -> float:
    """Seconds to wait before the next try."""
    try:
        asked = float(retry_after) if retry_after else 0.0
    except ValueError:  # it may also be a date, which says no more than that waiting is in order
        asked = 0.0
    return min(max(asked, math.ldexp(0.5, attempt)), _MAX_WAIT_S)
