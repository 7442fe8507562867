"""The protocol as an OpenAPI document, made from the messages' classes.

`python -m sandbox.http.openapi > docs/openapi.json` writes the file; a test compares it with the classes.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from sandbox.http import protocol
from sandbox.http.run_code import RunCodeRequest, RunCodeResponse

_REF = "#/components/schemas/{model}"
_REFUSALS = {
    "401": "no token, or another one than the server's",
    "408": "the body did not come in time",
    "413": "the body is larger than the server takes",
    "415": "the body is not of type application/json",
    "422": "a field is missing, unknown, of another type or out of bounds; or an assert is none",
    "503": "the server stops, or its sandbox failed: nothing was judged, ask again",
}


@functools.cache
def text() -> str:
    """Return the document as JSON, one line for each value."""
    return json.dumps(_document(), indent=1, sort_keys=True) + "\n"


def _document() -> dict[str, Any]:
    kinds: list[type[BaseModel]] = [
        protocol.Info,
        protocol.JudgeRequest,
        protocol.JudgeResponse,
        protocol.Refusal,
        RunCodeRequest,
        RunCodeResponse,
    ]
    _, schemas = models_json_schema([(kind, "validation") for kind in kinds], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sdpo-bench sandbox",
            "version": str(protocol.VERSION),
            "description": "Judges programs that nobody trusts. See docs/protocol.md.",
        },
        "security": [{"bearer": []}, {"basic": []}, {}],
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "the token as password, for clients that take a URL alone",
                },
            },
        },
    }


def _paths() -> dict[str, Any]:
    return {
        "/health": _get(
            "Say whether the server takes requests; needs no token.",
            _json({"type": "object", "properties": {"status": {"const": "ok"}}}),
            "503",
        ),
        "/metrics": _get(
            "Counters in Prometheus' text form.",
            {"text/plain": {"schema": {"type": "string"}}},
            "401",
        ),
        "/openapi.json": _get("This document.", _json({"type": "object"}), "401"),
        "/v1/info": _get("What this server is.", _json(_ref(protocol.Info)), "401"),
        "/v1/judge": _post(
            "Run programs and judge their asserts by the values that come back.",
            protocol.JudgeRequest,
            protocol.JudgeResponse,
            busy="429",
        ),
        "/run_code": _post(
            "Run one Python program as a script, in SandboxFusion's form.",
            RunCodeRequest,
            RunCodeResponse,
            busy="504",
        ),
    }


def _get(summary: str, content: dict[str, Any], refused: str) -> dict[str, Any]:
    return {"get": _operation(summary, content, {refused: _REFUSALS[refused]}, later=("503",))}


def _post(
    summary: str, request: type[BaseModel], response: type[BaseModel], *, busy: str
) -> dict[str, Any]:
    """A path that takes a body; `busy` is the status where there is no room."""
    refusals = {
        **_REFUSALS,
        busy: "the queue is full, or the turn did not come in time; ask again",
    }
    operation = _operation(summary, _json(_ref(response)), refusals, later=("503", busy))
    return {
        "post": {**operation, "requestBody": {"required": True, "content": _json(_ref(request))}}
    }


def _operation(
    summary: str, content: dict[str, Any], refusals: dict[str, str], *, later: Sequence[str]
) -> dict[str, Any]:
    """Describe what is done: its answer, how it refuses, and after which refusals it says when to come again."""
    responses: dict[str, Any] = {"200": {"description": "done", "content": content}}
    for status, text in refusals.items():
        responses[status] = {"description": text, "content": _json(_ref(protocol.Refusal))}
        if status in later:
            header = {"schema": {"type": "integer"}, "description": "seconds"}
            responses[status]["headers"] = {"Retry-After": header}
    return {"summary": summary, "responses": responses}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _ref(kind: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=kind.__name__)}


if __name__ == "__main__":
    print(text(), end="")
