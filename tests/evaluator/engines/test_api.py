import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluator.cli import sources
from evaluator.engines import servers as servers_module
from evaluator.engines.api import Api, ApiError, sample_served
from evaluator.problems.mbpp import load_problems
from evaluator.problems.prompt import MBPP, MBPP_3SHOT
from evaluator.sampling.model import Decoding
from sdpo_bench import main
from tests.evaluator.conftest import FakeSandbox
from tests.evaluator.engines.stand_in import Server, ok

PROBLEMS = load_problems("embedded/test", limit=3).problems


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def sample(server, *, protocol=MBPP, problems=PROBLEMS, waits=None, **options):
    waits = [] if waits is None else waits
    served = Api((server.url,), "m", wait=waits.append, n_tries=3, **options)
    batches = sample_served(
        problems, served, protocol=protocol, shots=(), decoding=Decoding(), n_at_once=2
    )
    return [answer for batch in batches for answer in batch]


def test_answers_come_in_order_of_the_problems(server):
    answers = sample(server)
    assert [answer.problem.task_id for answer in answers] == [25, 26, 27]
    assert all(a.problem.reference in a.completion for a in answers)
    assert (answers[0].n_tokens, answers[0].truncated) == (9, False)
    path, headers, content = server.requests[0]
    assert path == "/v1/chat/completions"
    assert (content["temperature"], content["max_tokens"], content["model"]) == (0.0, 256, "m")
    assert "Authorization" not in headers


def test_the_key_is_sent_as_a_bearer_token(server):
    sample(server, key="secret")
    assert server.requests[0][1]["Authorization"] == "Bearer secret"


def test_a_plain_protocol_asks_for_a_completion_with_its_stop(server):
    sample(server, protocol=MBPP_3SHOT)
    path, _, content = server.requests[0]
    assert path == "/v1/completions"
    assert content["stop"] == ["[DONE]"]


def test_an_answer_that_met_the_limit_is_truncated(server):
    server.script = [ok("cut", finish="length")]
    assert sample(server, problems=PROBLEMS[:1])[0].truncated


def test_null_content_is_an_empty_completion(server):
    server.script = [ok(None)]
    assert sample(server, problems=PROBLEMS[:1])[0].completion == ""


def message(content, **more):
    """A response whose message holds this."""
    choice = {"message": {"role": "assistant", **content}, "finish_reason": None}
    return 200, {}, json.dumps({"choices": [choice], **more}).encode()


def test_text_that_comes_in_parts_is_put_together_without_the_thinking(server):
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "def f():"},
        {"type": "text", "text": " pass"},
    ]
    server.script = [message({"content": parts})]
    assert sample(server, problems=PROBLEMS[:1])[0].completion == "def f(): pass"


def test_a_message_that_only_calls_tools_is_an_empty_completion(server):
    server.script = [message({"tool_calls": [{"id": "a"}]})]
    assert sample(server, problems=PROBLEMS[:1])[0].completion == ""


@pytest.mark.parametrize("content", [5, True, {"text": "x"}, [{"type": "text"}], ["x"]])
def test_content_that_is_no_text_is_refused_and_not_scored_as_empty(server, content):
    assert "must answer in the OpenAI form" in failure(
        server, message({"content": content}), n_requests=1
    )


@pytest.mark.parametrize("count", [10**30, -4, True, "7", None, [1]])
def test_a_count_of_tokens_that_cannot_be_is_left_out(server, count):
    server.script = [message({"content": "x"}, usage={"completion_tokens": count})]
    assert sample(server, problems=PROBLEMS[:1])[0].n_tokens is None
    server.script = [message({"content": "x"}, usage=[count])]
    assert sample(server, problems=PROBLEMS[:1])[0].n_tokens is None


def test_an_answer_that_breaks_off_is_asked_for_again(server):
    status, headers, body = ok("whole")
    for script in (
        (status, {**headers, "Content-Length": str(len(body))}, body[:20]),
        (status, headers, body[:20]),
    ):
        server.script = [script, ok("whole")]
        assert sample(server, problems=PROBLEMS[:1])[0].completion == "whole"


def test_too_many_requests_are_tried_again_after_the_asked_wait(server):
    server.script = [(429, {"Retry-After": "7"}, b""), (503, {}, b""), ok("fine")]
    waits = []
    (answer,) = sample(server, problems=PROBLEMS[:1], waits=waits)
    assert answer.completion == "fine"
    assert waits == [7.0, 1.0]


def test_an_endless_wait_is_not_obeyed(server):
    server.script = [(429, {"Retry-After": "99999"}, b""), ok("fine")]
    waits = []
    sample(server, problems=PROBLEMS[:1], waits=waits)
    assert waits == [60.0]


def failure(server, *script, n_requests):
    server.script = list(script)
    with pytest.raises(ApiError) as caught:
        sample(server, problems=PROBLEMS[:1])
    assert len(server.requests) == n_requests
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_that_stays_busy_is_one_line(server):
    busy = (429, {}, b"")
    text = failure(server, busy, busy, busy, n_requests=3)
    assert "got 'status 429'" in text
    assert "--resume" in text


def test_a_refusal_is_not_tried_again(server):
    text = failure(server, (401, {}, b'{"error":\n"bad key"}'), n_requests=1)
    assert "status 401" in text
    assert "bad key" in text


def test_html_is_one_line(server):
    page = (200, {"Content-Type": "text/html"}, b"<html>\n<body>Welcome</body>")
    assert "must answer with a JSON object, got b'<html>" in failure(server, page, n_requests=1)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"choices": []}', b'{"choices": "x"}', b"", b"["])
def test_another_form_is_one_line(server, body):
    assert "must answer" in failure(server, (200, {}, body), n_requests=1)


def test_a_response_without_end_is_refused(server, monkeypatch):
    monkeypatch.setattr(servers_module, "_MAX_RESPONSE_BYTES", 1000)
    failure(server, ok("x" * 2000), n_requests=1)


def test_a_server_that_is_not_there_is_one_line():
    served = Api(("http://127.0.0.1:9/v1",), "m", wait=lambda s: None, n_tries=2)
    with pytest.raises(ApiError, match="on each of 2 tries"):
        list(
            sample_served(
                PROBLEMS, served, protocol=MBPP, shots=(), decoding=Decoding(), n_at_once=1
            )
        )


def hanging():
    """An answer that comes after the client has gone."""
    time.sleep(0.4)
    return ok("late")


def test_a_server_that_takes_too_long_once_is_asked_again(server):
    server.script = [hanging]
    (answer,) = sample(server, problems=PROBLEMS[:1], timeout_s=0.1)
    assert PROBLEMS[0].reference in answer.completion
    assert len(server.requests) == 2


def test_a_server_that_always_takes_too_long_is_one_line(server):
    server.script = [hanging] * 3
    with pytest.raises(ApiError, match=r"got 'timed out' from .* on each of 3 tries; .* --resume"):
        sample(server, problems=PROBLEMS[:1], timeout_s=0.1)


def test_other_schemes_are_refused():
    with pytest.raises(ApiError, match="must begin with http"):
        list(
            sample_served(
                PROBLEMS,
                Api(("file:///etc/passwd",), "m"),
                protocol=MBPP,
                shots=(),
                decoding=Decoding(),
                n_at_once=1,
            )
        )


def test_the_command_evaluates_what_is_served_and_stores_no_key(server, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "open_sandbox", lambda backend: FakeSandbox())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    key = "secret" + "-key"  # not as one word: a dirty checkout stores its diff
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.chdir(tmp_path)
    options = ["--api-base", server.url, "--model", "org/served", "--dataset", "embedded/test"]
    result = CliRunner().invoke(main, ["eval", *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert "16/16" in result.stdout
    (run,) = Path("runs").iterdir()
    info = json.loads((run / "run.json").read_text())
    assert (info["model"], info["label"]) == ("org/served", "served")
    assert info["config"]["api_base"] == [server.url]
    assert not any(key in path.read_text() for path in run.iterdir())


def test_what_was_answered_before_a_failure_is_kept_and_resumed(server, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "open_sandbox", lambda backend: FakeSandbox())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    server.script = [ok("first"), ok("second"), (401, {}, b"expired")]
    options = ["--api-base", server.url, "--model", "m", "--dataset", "embedded/test"]
    result = CliRunner().invoke(main, ["eval", *options, "--batch-size", "1"])
    assert result.exit_code == 1
    assert "status 401" in result.stderr
    (run,) = Path("runs").iterdir()
    n_before = len(server.requests)
    result = CliRunner().invoke(main, ["eval", "--resume", run.name], catch_exceptions=False)
    assert result.exit_code == 0
    assert len(server.requests) - n_before == 14
    assert "14/16" in result.stdout
