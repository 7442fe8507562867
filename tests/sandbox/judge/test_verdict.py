import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.guest.protocol import How, ProtocolError, Reply, ResponseHeader
from sandbox.judge.asserts import parse
from sandbox.judge.decode import Large, Opaque
from sandbox.judge.verdict import clean, judge, parse_body, show
from sandbox.program import Program, Verdict

PROGRAM = Program("", ("assert f(1) == 2", "assert f(2) == 3"), ("f",))
PLAN = [parse(source, PROGRAM.callables) for source in PROGRAM.asserts]
LOAD, END = '["load",null]', '["end","",false]'


def body(*lines):
    return "".join(line + "\n" for line in lines).encode()


def verdicts(data, how=How.EXITED, code=0):
    header = ResponseHeader(Reply.ENDED, how, code, len(data))
    execution = judge(PROGRAM, PLAN, header, data, asides={})
    return [result.verdict.value for result in execution.results]


def test_values_are_judged():
    data = body(LOAD, '["assert",0,null,[2]]', '["assert",1,null,[4]]', END)
    assert verdicts(data) == ["passed", "failed"]


@pytest.mark.parametrize(
    ("how", "code", "verdict"),
    [
        (How.EXITED, 0, "crashed"),
        (How.EXITED, 1, "crashed"),
        (How.SIGNALED, 11, "crashed"),
        (How.SIGNALED, 99, "crashed"),
        (How.DEADLINE, 0, "timeout"),
        (How.OOM, 9, "memory"),
    ],
)
def test_silence_is_never_a_pass(how, code, verdict):
    assert verdicts(b"", how, code) == [verdict, "not_run"]
    assert verdicts(body(LOAD), how, code) == [verdict, "not_run"]
    assert verdicts(body(LOAD, '["assert",0,null,[2]]'), how, code) == ["passed", verdict]


@pytest.mark.parametrize(
    "data",
    [
        body(END),
        body(LOAD, LOAD),
        body('["assert",0,null,[2]]', LOAD),
        body(LOAD, '["assert",1,null,[3]]'),
        body(LOAD, '["assert",0,null,[2]]', '["assert",0,null,[2]]'),
        body(LOAD, '["assert",0,null,[2]]', '["assert",1,null,[3]]', '["assert",2,null,[3]]'),
        body(LOAD, END, '["assert",0,null,[2]]'),
        body(LOAD, END, END),
        body(LOAD, '["assert",0,null,2]'),
        body(LOAD, '["assert",true,null,[2]]', '["assert",0,null,[2]]'),
        body(LOAD, '["assert",0,null,[NaN]]'),
        body(LOAD, '["assert",0,null,[{"i":"zz"}]]'),
        body(LOAD, '["assert",0,null,[{"a":[]}]]'),
        body(LOAD, '["assert",0,{"type":"E"},null]'),
        body('["passed",true]'),
        body("PASSED"),
        body("[" * 100_000),
        body(LOAD, '["assert",0,null,[' + "9" * 10_000 + "]]"),
        b"\xff\xfe\n",
        b"\0\0\n",
    ],
)
def test_garbled_lines_count_for_nothing_not_even_in_part(data):
    assert verdicts(data) == ["crashed", "not_run"]


def test_more_or_fewer_values_than_calls_are_no_pass():
    data = body(LOAD, '["assert",0,null,[]]', '["assert",1,null,[3]]', END)
    assert verdicts(data) == ["crashed", "not_run"]
    data = body(LOAD, '["assert",0,null,[2]]', '["assert",1,null,[3,3]]', END)
    assert verdicts(data) == ["passed", "crashed"]


def test_a_line_cut_off_counts_for_nothing():
    assert verdicts(body(LOAD) + b'["assert",0,null,[2]]', How.DEADLINE) == ["timeout", "not_run"]


@given(st.binary(max_size=300))
def test_any_bytes_are_facts_or_a_protocol_error(data):
    try:
        parse_body(data, 2)
    except ProtocolError:
        pass


lines = st.one_of(
    st.sampled_from([LOAD, END, '["assert",0,null,[1]]', '["assert",1,null,[1]]']),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    ).map(json.dumps),
)


@given(st.lists(lines, max_size=6))
def test_no_lines_without_the_right_values_pass(drawn):
    # 2 and 3 are the answers; the only whole lines that are drawn on purpose carry 1.
    data = body(*drawn)
    if b",[2]" not in data and b",[3]" not in data:
        assert "passed" not in verdicts(data)


def test_an_exceptions_words_are_cleaned_and_its_line_checked():
    failure = {"type": "E\x1b", "message": "a\x00b\u202ec" * 500, "line": -5, "call": "evil()"}
    data = body(LOAD, json.dumps(["assert", 0, failure, None]))
    header = ResponseHeader(Reply.ENDED, body_bytes=len(data))
    result = judge(PROGRAM, PLAN, header, data, asides={}).results[0]
    assert result.verdict == Verdict.ERROR
    assert result.exception == "E\ufffd" and len(result.message) <= 300
    assert not set("\x00\u202e\x1b") & set(result.message)
    assert result.line is None and result.call is None


@given(st.text(st.characters()), st.integers(40, 200))
def test_clean_text_is_bounded_and_printable(text, limit):
    cleaned = clean(text, limit)
    assert len(cleaned) <= limit
    cleaned.encode()
    assert not any(ord(c) < 32 and c not in "\t\n" for c in cleaned)


def test_showing_a_value_is_cheap_and_bounded():
    assert show(1 << 1_000_000) == "<int of 1000001 bits>"
    assert len(show(list(range(100_000)))) <= 300
    assert len(show({i: "x" * 1000 for i in range(100)})) <= 300
    assert show(Opaque("x", "\x1b[2J", True)) == "\ufffd[2J"
    assert show([1, {"a": (2.5, None)}]) == "[1, {'a': (2.5, None)}]"


def test_no_address_of_any_process_is_shown():
    hostile = [
        Opaque("map", "<map object at 0x7f1234abcd>", True),
        memoryview(b"ab"),
        {1: 10**5000}.keys(),
        Fraction(10**5000),
        [Fraction(10**5000), Opaque("int", "<x object at 0x55aa>", True)],
        Large("list", "list", 5, None),
    ]
    for value in hostile:
        text = show(value)
        assert "0x" not in text and text
    assert clean("'<' not supported: <a.b object at 0x7F00>", 100) == (
        "'<' not supported: <a.b object>"
    )
