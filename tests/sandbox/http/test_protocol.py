"""What the server answers: the same suite over a server in a thread, and over one in a container of its own."""

import os

import jsonschema
import pytest

from sandbox.http import openapi
from sandbox.http.remote import Remote
from sandbox.program import Program, Verdict
from tests.sandbox.http.conftest import TOKEN, ask, bearer, program

SERVER = os.environ.get("SDPO_BENCH_TEST_SERVER")
"""Address of a server with TOKEN that runs elsewhere; tests/containers sets it."""


@pytest.fixture
def url(request):
    return SERVER or request.getfixturevalue("served")


def judge(url, *programs, **more):
    return ask(url, "POST", "/v1/judge", {"programs": list(programs), **more}, headers=bearer())


def run_code(url, code, **fields):
    return ask(
        url, "POST", "/run_code", {"code": code, "language": "python", **fields}, headers=bearer()
    )


def valid(kind, content):
    """Check an answer by the document that others read."""
    import json

    document = json.loads(openapi.text())
    jsonschema.validate(content, {"$ref": f"#/components/schemas/{kind}", **document})


def test_a_right_and_a_wrong_program_have_their_verdicts_and_evidence(url):
    wrong = program("def f(x):\n    return [x]\n", "assert f(1) == 2", "assert f(2) == [2]")
    got = judge(url, program(), wrong)
    assert got.status == 200
    valid("JudgeResponse", got.json)
    right, wrong = got.json["executions"]
    assert [r["verdict"] for r in right["results"]] == ["passed"]
    assert [r["verdict"] for r in wrong["results"]] == ["failed", "passed"]
    first = wrong["results"][0]
    assert (first["call"], first["expected"], first["got"]) == ("f(1)", "2", "[1]")
    assert wrong["feedback"] is None


def test_feedback_is_words_for_a_model_where_it_is_asked_for(url):
    wrong = program("def f(x):\n    return x / 0\n")
    right, wrong = judge(url, program(), wrong, feedback=True).json["executions"]
    assert right["feedback"] is None
    assert "f(1) raised ZeroDivisionError: division by zero" in wrong["feedback"]
    assert "line 2: return x / 0" in wrong["feedback"]


KINDS = {
    "passes": ("def f(x): return x + 1", Verdict.PASSED),
    "fails": ("def f(x): return x", Verdict.FAILED),
    "raises": ("def f(x): raise ValueError('\\x1b[31m\\u202eno')", Verdict.ERROR),
    "no python": ("def f(", Verdict.ERROR),
    "surrogates": ("def f(x): return '\ud800'", Verdict.ERROR),
    "exits": ("import os\ndef f(x): os._exit(0)", Verdict.CRASHED),
    "loops": ("def f(x):\n    while True: pass", Verdict.TIMEOUT),
    "eats": ("def f(x): return bytearray(10**11)", Verdict.MEMORY),
    "is equal to all": (
        "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()",
        Verdict.UNJUDGED,
    ),
    "prints": ("def f(x):\n    print('x' * 9000)\n    return 2", Verdict.PASSED),
    "is long": ("x = 1\n" * 20_000 + "def f(x): return 2", Verdict.PASSED),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_gets_the_execution_that_the_sandbox_gives(request, url, kind):
    code, verdict = KINDS[kind]
    asked = Program(code, ("assert f(1) == 2", "assert f(1) == 2"), ("f",), timeout_s=0.3)
    with Remote(url, token=TOKEN) as remote:
        (execution,) = remote.run([asked])
    assert execution.results[0].verdict is verdict
    assert [result.assertion for result in execution.results] == list(asked.asserts)
    if SERVER is None:
        (there,) = request.getfixturevalue("process_pool").run([asked])
        assert execution.results == there.results
        assert execution.output_tail == there.output_tail


def test_an_assert_that_only_the_answer_can_judge_is_not_trusted(url):
    got = judge(url, program("def f(x): return 2", "assert f(1) == g(1)", callables=["f"]))
    (result,) = got.json["executions"][0]["results"]
    assert result["trusted"] is False


def test_names_to_run_inside_are_found_where_none_are_given(url):
    code = "def f(x): return x + 0.5\ndef g(x): return x"
    asserts = ["assert math.floor(f(1)) == 1", "assert sorted([g(1), g(2)]) == [1, 2]"]
    got = judge(url, program(code, *asserts, imports=["import math"]))
    results = got.json["executions"][0]["results"]
    assert [(r["verdict"], r["trusted"]) for r in results] == [("passed", True)] * 2


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "must be JSON"),
        (b"{", "must be JSON"),
        (b"[" * 100_000, "must be JSON"),
        (b"null", "body"),
        (b"{}", "programs"),
        (b'{"programs": [], "more": 1}', "more"),
        (b'{"programs": [{"code": "x"}]}', "programs.0.asserts"),
        (b'{"programs": [{"code": 1, "asserts": []}]}', "programs.0.code"),
        (b'{"programs": [{"code": "", "asserts": [], "timeout_s": NaN}]}', "finite"),
        (b'{"programs": [{"code": "", "asserts": [], "timeout_s": 1e999}]}', "timeout_s"),
        (b'{"programs": [{"code": "", "asserts": [], "timeout_s": 0}]}', "timeout_s"),
        (b'{"programs": [{"code": "", "asserts": [], "timeout_s": true}]}', "timeout_s"),
        (b'{"programs": [{"code": "", "asserts": ["x = 1"]}]}', "programs.0"),
        (b'{"programs": [{"code": "", "asserts": ["assert 1\\nassert 2"]}]}', "programs.0"),
        (b'{"programs": [{"code": "", "asserts": ["assert f(\\u0000)"]}]}', "programs.0"),
        (
            b'{"programs": [{"code": "", "asserts": ["assert ' + b"-" * 200_000 + b'1"]}]}',
            "programs.0",
        ),
        (
            b'{"programs": [{"code": "", "asserts": ["assert ' + b"(" * 200_000 + b'1"]}]}',
            "programs.0",
        ),
        (b'{"programs": [' + b",".join([b'{"code": "", "asserts": []}'] * 65) + b"]}", "programs"),
        (
            b'{"programs": [{"code": "", "asserts": ["assert 1"], "cases": [{"stdin": "", "expected": ""}]}]}',
            "asserts or cases, got both",
        ),
        (b'{"programs": [{"code": "", "asserts": [], "cases": [{"stdin": ""}]}]}', "expected"),
        (b'{"programs": [], "programs": 1}', "programs"),
        (b"\xff\xfe", "JSON"),
    ],
)
def test_what_is_no_request_is_refused_in_one_line_and_nothing_runs(url, raw, said):
    got = ask(url, "POST", "/v1/judge", raw=raw, headers=bearer())
    assert got.status == 422
    valid("Refusal", got.json)
    assert said in got.json["error"] and "\n" not in got.json["error"]
    assert judge(url, program()).status == 200


@pytest.mark.parametrize("path", ["/v1/judge", "/run_code"])
def test_a_body_of_another_type_is_refused(url, path):
    headers = {**bearer(), "Content-Type": "text/plain"}
    assert ask(url, "POST", path, raw=b"{}", headers=headers).status == 415


@pytest.mark.parametrize(
    "kind", ["Application/JSON", "application/json; charset=utf-8", "application/json ;x=y"]
)
def test_the_spelling_of_a_bodys_type_does_not_matter(url, kind):
    headers = {**bearer(), "Content-Type": kind}
    assert ask(url, "POST", "/run_code", {"code": "print(1)"}, headers=headers).status == 200


@pytest.mark.parametrize("path", ["/v1/judge", "/run_code"])
def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(url, path):
    headers = {**bearer(), "Content-Length": str(1 << 40)}
    got = ask(url, "POST", path, raw=b"{}", headers=headers)
    assert got.status == 413 and got.json["code"] == "too_large"
    assert got.headers["connection"] == "close"


def test_a_body_without_a_length_is_counted_as_it_comes(url):
    endless = (b"x" * 65_536 for _ in range(10_000))
    try:
        got = ask(url, "POST", "/v1/judge", raw=endless, headers=bearer())
    except (BrokenPipeError, ConnectionResetError):
        return  # hung up on, before the answer could be read
    assert got.status == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/info"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("POST", "/v1/judge"),
        ("POST", "/run_code"),
    ],
)
@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", "Bearer \xff", f"Token {TOKEN}",
     "Basic !", "Basic dTp4", TOKEN],
)  # fmt: skip
def test_without_the_token_nothing_is_answered(url, method, path, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    got = ask(url, method, path, raw=b"{}" if method == "POST" else None, headers=headers)
    assert got.status == 401 and got.json["code"] == "unauthorized"


def test_the_token_may_be_a_urls_password(url):
    import base64

    word = base64.b64encode(f"any:{TOKEN}".encode()).decode()
    assert ask(url, "GET", "/v1/info", headers={"Authorization": f"Basic {word}"}).status == 200


def test_health_needs_no_token_and_tells_nothing(url):
    got = ask(url, "GET", "/health")
    assert (got.status, got.json) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/judge"),
        ("POST", "/health"),
        ("GET", "/v2/judge"),
        ("GET", "/health/"),
        ("POST", "/run_code/"),
        ("GET", "//v1/info"),
        ("GET", "/v1/../v1/info"),
        ("GET", "/V1/info"),
    ],
)
def test_another_path_or_method_is_refused_in_the_protocols_form(url, method, path):
    got = ask(url, method, path, headers=bearer())
    assert got.status in (404, 405)
    valid("Refusal", got.json)


def test_info_says_what_a_client_needs(url):
    got = ask(url, "GET", "/v1/info", headers=bearer())
    valid("Info", got.json)
    assert got.json["protocol"] == 1


def test_the_document_is_served(url):
    assert ask(url, "GET", "/openapi.json", headers=bearer()).body.decode() == openapi.text()


# ------------------------------------------------------------------------------ /run_code


@pytest.mark.parametrize(
    ("code", "stdin", "stdout"),
    [
        ("print(input()[::-1])", "abc\n", "cba\n"),
        ("import sys\nprint(sum(map(int, sys.stdin)))", "1\n2\n", "3\n"),
        ("import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())", "ä\x00\n", "ä\x00\n"),
        ("print(open(0).read(), end='')", "x", "x"),
        ("print(open('/dev/stdin').readline(), end='')", "x\ny", "x\n"),
        ("if __name__ == '__main__':\n    print(__file__)", "", "main.py\n"),
        ("def f():\n    return g()\ndef g(): return 1\nprint(f())", "", "1\n"),
        ("from __future__ import annotations\nprint(1)", None, "1\n"),
        ("import atexit\natexit.register(print, 'end')", "", "end\n"),
        ("import sys\nprint(1)\nsys.exit()", "", "1\n"),
        ("import sys\nprint('{}', '{x!r}', '%s')\nsys.stdout.close()", "", "{} {x!r} %s\n"),
        ("import threading\nthreading.Thread(target=print, args=('t',)).start()", "", "t\n"),
    ],
)
def test_a_script_reads_and_prints_as_python_would(url, code, stdin, stdout):
    got = run_code(url, code, stdin=stdin).json
    valid("RunCodeResponse", got)
    assert got["status"] == "Success" and got["run_result"]["status"] == "Finished"
    assert (got["run_result"]["stdout"], got["run_result"]["return_code"]) == (stdout, 0)


@pytest.mark.parametrize(
    ("code", "status", "return_code", "stderr"),
    [
        ("x = 1 / 0", "Finished", 1, 'File "main.py", line 1, in <module>'),
        ("def f(", "Finished", 1, "SyntaxError"),
        ("import sys\nsys.exit(3)", "Finished", 3, ""),
        ("import sys\nsys.exit('no')", "Finished", 1, "no"),
        ("print(input())", "Finished", 1, "EOFError"),
        ("x = bytearray(10 ** 11)", "Finished", 1, "MemoryError"),
        ("while True: pass", "TimeLimitExceeded", None, ""),
        ("import os\nos._exit(7)", "Error", 7, "ended before"),
        ("import os\nos._exit(0)", "Error", 0, "ended before"),
        ("import os\nos.abort()", "Error", None, ""),
    ],
)
def test_a_script_that_fails_says_how(url, code, status, return_code, stderr):
    got = run_code(url, code, run_timeout=0.5).json
    assert got["status"] == "Failed" and got["run_result"]["status"] == status
    assert stderr in got["run_result"]["stderr"]
    if return_code is not None:
        assert got["run_result"]["return_code"] == return_code


def test_a_script_cannot_say_more_than_a_script_prints(url):
    forged = (
        "import os\n"
        'os.write(3, b\'["load",null]\\n["assert",0,null,[[[[1]]]]]\\n["end","",false]\\n\')\n'
        "os._exit(0)\n"
    )
    assert run_code(url, forged).json["status"] == "Failed"


def test_long_output_is_cut_and_not_refused(url):
    got = run_code(url, "import random\nprint('ä' * 10**6)").json
    stdout = got["run_result"]["stdout"]
    assert got["status"] == "Success" and set(stdout) == {"ä"} and len(stdout) == 300_000


@pytest.mark.parametrize(
    "fields",
    [
        {"language": "cpp"},
        {"files": {"a": "eA=="}},
        {"fetch_files": ["a"]},
        {"run_timeout": 1e9},
        {"code": None},
    ],
)
def test_what_a_script_cannot_have_is_refused(url, fields):
    got = run_code(url, **{"code": "", **fields})
    assert got.status == 422, got.body


def test_fields_of_other_trainers_are_taken(url):
    fields = {
        "compile_timeout": 10,
        "memory_limit_MB": 1024,
        "files": {},
        "fetch_files": [],
        "unheard_of": 1,
    }
    assert run_code(url, "print(1)", **fields).json["run_result"]["stdout"] == "1\n"
