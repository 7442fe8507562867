import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.guest import protocol as p


@given(
    st.integers(1, p.MAX_JOB_BYTES), st.integers(1, p.MAX_TIMEOUT_MS), st.integers(1, (1 << 62) - 1)
)
def test_a_request_header_survives(job_bytes, timeout_ms, memory):
    header = p.RequestHeader(p.Kind.RUN, job_bytes, timeout_ms, p.MAX_TIMEOUT_MS, memory)
    assert p.parse_request(p.dump_request(header)) == header


@given(
    st.sampled_from(p.Reply),
    st.sampled_from(p.How),
    st.integers(0, 255),
    st.integers(0, p.MAX_BODY_BYTES),
)
def test_a_response_header_survives(reply, how, code, body):
    header = p.ResponseHeader(reply, how, code, body, 1, 2, 3)
    assert p.parse_response(p.dump_response(header)) == header


@given(st.binary(max_size=80))
def test_any_bytes_are_a_header_or_a_protocol_error(data):
    for parse in (p.parse_request, p.parse_response):
        try:
            parse(data)
        except p.ProtocolError:
            pass


@given(st.binary(min_size=p.REQUEST_BYTES - 5, max_size=p.REQUEST_BYTES - 5))
def test_any_fields_are_a_header_or_a_protocol_error(data):
    try:
        p.parse_request(b"SDBQ\x01" + data)
    except p.ProtocolError:
        pass


@given(st.binary(min_size=p.RESPONSE_BYTES - 5, max_size=p.RESPONSE_BYTES - 5))
def test_any_answer_is_a_header_within_bounds_or_a_protocol_error(data):
    try:
        assert p.parse_response(b"SDBR\x01" + data).body_bytes <= p.MAX_BODY_BYTES
    except p.ProtocolError:
        pass


def test_a_control_request_may_carry_nothing():
    data = bytearray(p.dump_request(p.RequestHeader(p.Kind.STATUS)))
    data[-1] = 1
    with pytest.raises(p.ProtocolError, match="only a run"):
        p.parse_request(bytes(data))


text = st.text(st.characters())


@given(
    st.tuples(text),
    text,
    text,
    st.lists(
        st.lists(st.builds(p.Call, text, st.booleans()), max_size=2).map(tuple), max_size=2
    ).map(tuple),
)
def test_a_job_survives_surrogates_and_nul_included(imports, code, setup, steps):
    job = p.Job(imports, code, setup, steps)
    assert p.parse_job(p.dump_job(job)) == job


@given(st.binary(max_size=100))
def test_any_bytes_are_a_job_or_a_protocol_error(data):
    try:
        p.parse_job(data)
    except p.ProtocolError:
        pass


@pytest.mark.parametrize(
    "data", [b"[]", b"{}", b"[1,2,3,4]", b'[["a"],"b","c",[["d"]]]', b"[" * 100_000]
)
def test_a_malformed_job_is_a_protocol_error(data):
    with pytest.raises(p.ProtocolError):
        p.parse_job(data)
