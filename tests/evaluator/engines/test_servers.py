import functools
import json
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluator.cli import sources
from evaluator.engines import api, servers
from evaluator.engines.api import Api, ApiError, sample_served
from evaluator.problems.mbpp import load_problems
from evaluator.problems.prompt import MBPP
from evaluator.sampling.model import Decoding
from sdpo_bench import main
from tests.evaluator.conftest import FakeSandbox
from tests.evaluator.engines.stand_in import Server, ok

PROBLEMS = load_problems("embedded/test").problems
TASK_IDS = [problem.task_id for problem in PROBLEMS]
REFUSED = (401, {}, b"bad key")


@pytest.fixture
def pair():
    both = Server(), Server()
    yield both
    for server in both:
        server.http.shutdown()
        server.http.server_close()


def sample(pair, *, n_at_once=4, said=None, **options):
    served = Api(
        tuple(server.url for server in pair),
        "m",
        say=[].append if said is None else said.append,
        **{"wait": lambda s: time.sleep(min(s, 0.01)), "n_tries": 3, **options},
    )
    batches = sample_served(
        PROBLEMS, served, protocol=MBPP, shots=(), decoding=Decoding(), n_at_once=n_at_once
    )
    return [answer for batch in batches for answer in batch]


def asked_of(server):
    return [content["messages"][-1]["content"] for _, _, content in server.requests]


def all_right(answers):
    """Whether each problem has its own answer, in order, once."""
    return [a.problem.task_id for a in answers] == TASK_IDS and all(
        a.problem.reference in a.completion for a in answers
    )


def test_two_servers_work_at_the_same_time(pair):
    meet = threading.Barrier(2)

    def met(server):
        def play():
            meet.wait(10)  # breaks, and the answer with it, where only one is asked
            return server.usual(server.requests[0][2])

        return play

    for server in pair:
        server.script = [met(server)]
    assert all_right(sample(pair, n_at_once=2))
    assert len(pair[0].requests) + len(pair[1].requests) == len(PROBLEMS)


@pytest.mark.parametrize(
    "n_at_once", [1, 16, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 40))]
)
def test_the_work_of_a_server_that_dies_goes_to_the_other_and_counts_once(pair, n_at_once):
    pair[1].dies_at = 3
    said = []
    answers = sample(pair, n_at_once=n_at_once, said=said)
    assert all_right(answers)
    n = len(pair[0].requests)
    assert said[-1] == f"answers by server: {pair[0].url} {n}, {pair[1].url} {len(PROBLEMS) - n}"
    # killed, it answered what it had in hands before or not at all: nobody was asked twice for an answer that came
    assert len(set(asked_of(pair[0]))) == n
    if len(pair[1].requests) == 3:
        assert said[0].startswith(f"{pair[1].url} failed (")
        assert len(said) == 2


def rows_of(run):
    """All rows of a run but for times, as they follow each other."""
    lines = [json.loads(line) for path in sorted(run.glob("*.jsonl")) for line in path.open()]
    kept = [
        line for line in lines if line.get("table") in ("eval_results", "test_results", "evals")
    ]
    for line in kept:
        line["row"].pop("wall_s", None)
        del line["crc32"]
    return kept


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "open_sandbox", lambda backend: FakeSandbox())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*options, code=0):
        result = CliRunner().invoke(main, ["eval", *options])
        assert result.exit_code == code, result.output
        return result

    return run


def served(*urls):
    options = [word for url in urls for word in ("--api-base", url)]
    return [*options, "--model", "m", "--dataset", "embedded/test", "--batch-size", "4"]


def test_rows_of_two_servers_of_which_one_dies_are_those_of_one(pair, evaluate):
    evaluate(*served(pair[0].url), "--runs-dir", "one")
    pair[1].dies_at = 2
    result = evaluate(*served(pair[0].url, pair[1].url + "/"), "--runs-dir", "two")
    assert "16/16" in result.stdout
    assert "answers by server" in result.stderr
    (one,), (two,) = Path("one").iterdir(), Path("two").iterdir()
    assert len(rows_of(one)) > 16
    assert rows_of(one) == rows_of(two)
    assert json.loads((two / "run.json").read_text())["config"]["api_base"] == [
        pair[0].url,
        pair[1].url + "/",
    ]


def test_other_servers_finish_what_one_that_died_began(pair, evaluate, monkeypatch):
    monkeypatch.setattr(sources, "Api", functools.partial(Api, wait=lambda s: None))
    pair[1].dies_at = 6
    result = evaluate(*served(pair[1].url), code=1)
    assert "go on with --resume" in result.stderr
    (run,) = Path("runs").iterdir()
    n_kept = sum(line["table"] == "eval_results" for line in rows_of(run))
    assert 1 <= n_kept <= 5  # an answer may be on its way when the others fail
    result = evaluate("--resume", run.name, "--api-base", pair[0].url)
    assert "16/16" in result.stdout
    assert len(set(asked_of(pair[0]))) == len(pair[0].requests) == 16 - n_kept


def test_a_run_that_asked_no_server_is_not_resumed_on_one(evaluate, monkeypatch, tmp_path):
    def fails(*args, **options):
        raise ApiError("stop here")

    monkeypatch.setattr("evaluator.cli.eval.record", fails)
    evaluate("--gold", "--dataset", "embedded/test", code=1)
    (run,) = Path("runs").iterdir()
    result = evaluate("--resume", run.name, "--api-base", "http://127.0.0.1:9", code=2)
    assert "must stand beside --resume of a run that asked a server" in result.stderr


def test_a_server_that_hangs_is_left_alone_after_one_timeout(pair):
    def hangs():
        time.sleep(1.0)
        return ok("late")

    pair[1].script = [hangs] * 20
    started = time.monotonic()
    assert all_right(sample(pair, n_at_once=2, timeout_s=0.2))
    assert len(pair[1].requests) == 1
    assert time.monotonic() - started < 1.0


CUT = b'{"choices": [{"message": {"content": "half'


@pytest.mark.parametrize(
    "played",
    [
        (200, {"Content-Length": "4000"}, CUT),
        (200, {}, CUT),
        (200, {}, b""),
        (200, {}, b"<html>It works!</html>"),
        (200, {}, b'{"error": "no such model"}'),
        (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
        (404, {}, b"no such model"),
        (400, {"Content-Length": "4000"}, b"half"),
        (500, {}, b""),
        (503, {"Retry-After": "nan"}, b""),
        (429, {"Retry-After": "60"}, b""),
        REFUSED,
    ],
    ids=str,
)
def test_what_one_server_fails_at_the_other_does(pair, played):
    pair[0].script = [played] * 40
    said = []
    assert all_right(sample(pair, said=said))
    assert len(pair[1].requests) == len(PROBLEMS)
    assert f"{pair[0].url} failed (" in said[0]
    assert "\n" not in "".join(said)


def test_a_server_that_answers_again_is_used_again(pair, monkeypatch):
    monkeypatch.setattr(servers, "_MAX_WAIT_S", 0.0)
    monkeypatch.setattr(servers, "_REST", 0.0)
    pair[0].script = [(503, {}, b"")] * 2
    said = []
    assert all_right(sample(pair, n_at_once=1, said=said))
    assert [line.partition(" ")[2][:7] for line in said[:2]] == ["failed ", "answers"]
    assert len(pair[0].requests) > 4


def test_one_lost_request_does_not_rest_a_server_that_answers_others():
    pool = servers.Servers(Api(("http://a", "http://b"), "m"))
    (server, _) = pool._servers
    early = time.monotonic()
    server.n_in_hands = 2
    pool._put_back(server, early, None)
    pool._put_back(server, early, servers._Failure("timed out"))
    assert server.is_well(time.monotonic())


def test_when_every_server_refuses_the_run_ends_at_once(pair):
    for server in pair:
        server.script = [REFUSED] * 40
    with pytest.raises(ApiError, match="status 401"):
        sample(pair, n_at_once=1)
    assert [len(server.requests) for server in pair] == [1, 1]


def test_a_refusal_of_one_is_told_when_the_other_stays_away(pair):
    pair[0].script = [REFUSED] * 40
    pair[1].script = [(503, {}, b"")] * 40
    with pytest.raises(ApiError, match="status 401"):
        sample(pair, n_at_once=1)
    assert len(pair[1].requests) == 3


def test_when_no_server_answers_all_are_named_in_one_line(pair):
    for server in pair:
        server.script = [(503, {}, b"")] * 40
    with pytest.raises(ApiError) as caught:
        sample(pair, n_at_once=1)
    assert all(server.url in str(caught.value) for server in pair)
    assert "on each of 3 tries" in str(caught.value)


@pytest.mark.parametrize("n_at_once", [1, 3])
def test_what_was_answered_before_all_failed_is_yielded(pair, n_at_once):
    for server in pair:
        server.dies_at = 4
    api_ = Api(tuple(server.url for server in pair), "m", wait=lambda s: None, n_tries=2)
    answers = []
    with pytest.raises(ApiError):
        for batch in api.sample_served(
            PROBLEMS, api_, protocol=MBPP, shots=(), decoding=Decoding(), n_at_once=n_at_once
        ):
            answers += batch
    assert [a.problem.task_id for a in answers] == TASK_IDS[: len(answers)]
    # Three at once may fail in any order, and what was answered after the first that failed is asked again.
    assert n_at_once > 1 or len(answers) == 6


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        (("localhost:8000/v1",), "must begin with http"),
        (("http://",), "must begin with http"),
        (("http://host:port/v1",), "must begin with http"),
        (("http://[::1/v1",), "must begin with http"),
        (("http://a/v1", "ftp://b"), "got 'ftp://b'"),
        (("http://a/v1,http://b/v1",), "must begin with http"),
        (("http://user:secret@a/v1",), "address alone, got a with more"),
        (("http://a/v1?key=secret",), "address alone, got a with more"),
        (("http://a/v1", "http://b/v1", "http://a/v1/"), "once, got 'http://a/v1' twice"),
    ],
)
def test_an_address_that_cannot_be_asked_is_refused_before_anything_is_loaded(
    evaluate, monkeypatch, urls, words
):
    monkeypatch.setattr("evaluator.cli.eval.load_problems", None)
    result = evaluate(*served(*urls), code=1)
    assert words in result.stderr
    assert "secret" not in result.stderr
