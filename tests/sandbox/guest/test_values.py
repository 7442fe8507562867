import binascii
import datetime
import itertools
import json
import math
import pathlib
import uuid
import zlib
from array import array
from collections import (
    ChainMap,
    Counter,
    OrderedDict,
    UserDict,
    UserList,
    UserString,
    defaultdict,
    deque,
    namedtuple,
)
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.guest import values
from sandbox.guest.protocol import ProtocolError
from sandbox.judge import decode
from sandbox.judge.asserts import parse
from tests.scale import examples

hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.fractions()
    | st.dates()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9),
    lambda inner: st.tuples(inner) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
anything = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.sets(hashable, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(deque, st.lists(inner, max_size=3))
        | st.builds(deque, st.lists(inner, max_size=3), st.just(4))
    ),
    max_leaves=20,
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(list("ifcbBDYTEyotszdCOqQrKIFg?")), inner, min_size=1, max_size=2
        )
    ),
    max_leaves=30,
)


def there_and_back(value, **options):
    return decode.decode(json.loads(json.dumps(values.encode(value, **options))))


@given(anything)
def test_what_is_shipped_is_what_arrives(value):
    arrived = there_and_back(value)
    assert arrived == value
    assert type(arrived) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        Counter("aab"),
        UserDict({1: 2}),
        UserList([1, 2]),
        UserString("ab"),
        ChainMap({1: 2}, {3: 4}),
        MappingProxyType({1: 2}),
        array("d", [1.5, 2.5]),
        memoryview(b"ab"),
        uuid.UUID(int=5),
        pathlib.PurePosixPath("a/b"),
        datetime.time(1, 2, 3),
        datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        slice(1, 2),
        ...,
        NotImplemented,
        OrderedDict(b=1, a=2),
        range(3, 9, 2),
        bytearray(b"ab"),
        float("inf"),
        -(2**53),
        {1: 2}.keys(),
        {1: (2, 3)}.items(),
        int,
        Fraction(1, 3),
        Decimal("1.50"),
        datetime.timedelta(days=-1, microseconds=5),
    ],
)
def test_types_of_the_library_arrive_as_themselves(value):
    arrived = there_and_back(value)
    assert arrived == value and type(arrived) is type(value)


def test_huge_ints_arrive_up_to_a_bound():
    assert there_and_back(2**50_000) == 2**50_000
    assert isinstance(there_and_back(1 << (values.MAX_TEXT * 5)), decode.Large)


def test_nan_and_negative_zero_survive():
    assert math.isnan(there_and_back(float("nan")))
    # In a container the same NaN is equal, another one is not.
    assert there_and_back([math.nan]) == [math.nan]
    assert there_and_back([float("nan")]) != [math.nan]
    assert math.copysign(1, there_and_back(-0.0)) == -1
    assert there_and_back(True) is True


def test_a_subclass_that_brings_no_equality_arrives_as_its_base():
    point = namedtuple("point", "a b")
    table = defaultdict(list, a=[1])
    assert there_and_back([point(1, 2), table]) == [(1, 2), {"a": [1]}]


@pytest.mark.parametrize("base", [int, str, list, tuple, dict, set, float])
def test_a_subclass_with_an_equality_of_its_own_is_never_compared(base):
    hostile = type("H", (base,), {"__eq__": lambda *_: True, "__hash__": lambda _: 0})
    arrived = there_and_back(hostile())
    assert isinstance(arrived, decode.Opaque)
    for compare in (lambda: arrived == base(), lambda: base() != arrived, lambda: arrived < 1):
        with pytest.raises(decode.Unjudged, match="type H"):
            compare()


def test_a_deque_keeps_its_greatest_length():
    for value in (deque([1, 2], 2), deque((), 0), deque([1])):
        assert decode.decode(values.encode(value)).maxlen == value.maxlen


def test_an_opaque_value_keeps_its_truth_and_a_bounded_repr():
    class Thing:
        def __bool__(self):
            return False

        def __repr__(self):
            return "A" * 10**6

    arrived = there_and_back(Thing())
    assert not arrived and len(repr(arrived)) == values.MAX_REPR


def test_an_iterator_ships_its_items_only_when_asked():
    assert list(there_and_back((i for i in (1, 2)), iterate=True)) == [1, 2]
    assert there_and_back((i for i in (1, 2)), iterate=True) != [1, 2]
    assert there_and_back((i for i in (1, 2)), iterate=False) != [1, 2]
    assert 2 in there_and_back((i for i in (1, 2)), iterate=True)


def test_the_order_of_a_set_is_that_of_the_interpreter_that_built_it():
    words = {str(i) for i in range(50)}
    assert list(there_and_back(words, iterate=True)) == list(words)


def test_an_endless_iterator_is_looked_at_in_part():
    arrived = there_and_back(itertools.count(), iterate=True)
    assert 1000 in arrived and next(iter(arrived)) == 0
    with pytest.raises(decode.Unjudged, match="only 100000 values"):
        list(arrived)


LARGE = [
    [0] * (values.MAX_NODES + 1),
    tuple(range(values.MAX_NODES)),
    {i: i for i in range(values.MAX_NODES // 2)},
    set(range(values.MAX_NODES)),
    deque(range(values.MAX_NODES)),
    "a" * (values.MAX_TEXT + 1),
    b"a" * values.MAX_TEXT,
    [[1.5, Fraction(1, 3), (2, {3})]] * (values.MAX_NODES // 6),
]


@pytest.mark.parametrize(
    "value",
    [*LARGE[:-1], pytest.param(LARGE[-1], marks=pytest.mark.slow)],
    ids=lambda value: type(value).__name__,
)
def test_what_is_too_large_to_ship_knows_its_length_and_what_it_equals(value):
    arrived = there_and_back(value)
    assert isinstance(arrived, decode.Large)
    assert len(arrived) == len(value) and bool(arrived)
    assert arrived == value and value == arrived


N = values.MAX_NODES + 5


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ([0] * N, [0] * (N - 1)),
        ([0] * N, [0] * (N - 1) + [1]),
        ([0] * N, (0,) * N),
        (2**9_000_000, 2**9_000_000 + 1),
        ("a" * 10**7, "b" * 10**7),
    ],
    ids=["length", "item", "type", "int", "str"],
)
def test_a_large_value_equals_no_other(value, other):
    assert there_and_back(value) == value
    assert there_and_back(value) != other and other != there_and_back(value)


@pytest.mark.parametrize("use", [list, sum, sorted, lambda v: v[0], lambda v: 0 in v, str])
def test_what_a_large_value_cannot_answer_has_no_verdict(use):
    with pytest.raises(decode.Unjudged):
        use(there_and_back([0] * 10**6))


@pytest.mark.parametrize(
    "value",
    [
        Counter(range(N)),
        OrderedDict((i, i) for i in range(N)),
        {i: i for i in range(N)}.items(),
        {i: i for i in range(N)}.values(),
        array("i", range(N)),
        memoryview(bytes(values.MAX_TEXT)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_of_a_large_value_without_a_digest_the_length_alone_is_known(value):
    arrived = there_and_back(value)
    assert len(arrived) == len(value)
    with pytest.raises(decode.Unjudged):
        assert arrived == value
    with pytest.raises(decode.Unjudged):
        assert there_and_back([0] * N) == arrived


class Caseless(str):
    def __eq__(self, other):
        return self.lower() == other.lower()

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    ("value", "kind", "other"),
    [
        ([0] * N, "list", "tuple"),
        (2**9_000_000, "int", "(str, float)"),
        (Counter(range(N)), "dict", "list"),
        (Caseless("a"), "(int, str)", "int"),
        (object(), "object", "str"),
        ((x for x in ()), "object", "dict"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_isinstance_says_of_a_value_that_does_not_travel_what_it_says_of_the_value(
    value, kind, other
):
    arrived = there_and_back(value)
    assert isinstance(arrived, decode.Opaque)
    for text, holds in ((kind, True), (other, False)):
        test = parse(f"assert isinstance(f(1), {text})", ("f",)).test
        assert test.evaluate([arrived], []) is holds


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [1.0, True + 1]),
        ({1: 2, "a": 3}, {"a": 3.0, 1.0: 2}),
        ({1, 2.5}, frozenset((2.5, 1))),
        ([0.5], [Fraction(1, 2)]),
        (b"ab", bytearray(b"ab")),
        ([-0.0, 10**40], [0, Decimal(10**40)]),
        ([[float("inf")]], [[Decimal("Infinity")]]),
    ],
)
def test_equal_values_share_a_digest_whatever_their_types(one, other):
    assert one == other and values.digest(one) == values.digest(other) is not None


@settings(max_examples=examples(50))
@given(anything, anything)
def test_values_share_a_digest_only_if_they_are_equal(one, other):
    if None not in (values.digest(one), values.digest(other)):
        assert (values.digest(one) == values.digest(other)) == (one == other)


def test_a_long_value_travels_compressed_and_within_the_room():
    value = list(range(100_000))
    text = values.write(value)
    assert len(text) < 400_000 and decode.decode(json.loads(text)) == value
    assert isinstance(decode.decode(json.loads(values.write(value, room=2000))), decode.Large)


def test_a_packed_value_that_unpacks_beyond_the_bound_is_refused():
    packed = binascii.b2a_base64(zlib.compress(b"[" + b" " * values.MAX_JSON + b"]", 9)).decode()
    with pytest.raises(ProtocolError, match="must fit"):
        decode.decode({"Z": packed})


def test_what_is_too_deep_or_holds_itself_is_opaque():
    deep = []
    for _ in range(values.MAX_DEPTH + 1):
        deep = [deep]
    cycle = []
    cycle.append(cycle)
    assert isinstance(there_and_back(deep), decode.Opaque)
    assert isinstance(there_and_back(cycle), decode.Opaque)


@given(documents)
def test_a_hostile_document_is_a_value_or_a_protocol_error(document):
    try:
        decode.decode(document)
    except ProtocolError:
        pass


@given(st.binary(max_size=200))
def test_hostile_bytes_are_a_value_or_an_error_of_json(data):
    try:
        decode.decode(json.loads(data))
    except (ProtocolError, ValueError, RecursionError):
        pass


@pytest.mark.parametrize(
    "document",
    [
        {"i": "zz"},
        {"i": 5},
        {"f": "0x1p99999999"},
        {"?": 1},
        {"t": [1], "s": [1]},
        {},
        {"s": [[1]]},
        {"d": [1]},
        {"r": [0, 1, 0]},
        {"F": [1, 0]},
        {"D": "1E+99999"},
        {"D": "sNaN x"},
        {"Y": [0, 0, 0]},
        {"o": ["a"]},
        {"y": "eval"},
        {"t": "ab"},
        {"Q": []},
        {"Q": ["1"]},
        {"Q": [1, 1, 2]},
        {"Q": [10**30]},
    ],
)
def test_a_malformed_document_is_a_protocol_error(document):
    with pytest.raises(ProtocolError):
        decode.decode(document)


def test_a_nest_deeper_than_the_bound_is_refused():
    document = 1
    for _ in range(values.MAX_DEPTH + 10):
        document = {"t": [document]}
    with pytest.raises(ProtocolError):
        decode.decode(document)
