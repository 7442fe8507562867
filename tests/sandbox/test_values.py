import datetime
import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import decoding
from sandbox.guest import values
from sandbox.guest.protocol import ProtocolError

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
    ),
    max_leaves=20,
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(list("ifcbBDYTEyotszdCOqrKIFg?")), inner, min_size=1, max_size=2
        )
    ),
    max_leaves=30,
)


def there_and_back(value, **options):
    return decoding.decode(json.loads(json.dumps(values.encode(value, **options))))


@given(anything)
def test_what_is_shipped_is_what_arrives(value):
    arrived = there_and_back(value)
    assert arrived == value
    assert type(arrived) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        Counter("aab"),
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
    assert isinstance(there_and_back(1 << (values.MAX_TEXT * 5)), decoding.Opaque)


def test_nan_and_negative_zero_survive():
    assert math.isnan(there_and_back(float("nan")))
    assert math.copysign(1, there_and_back(-0.0)) == -1
    assert there_and_back(True) is True


def test_a_subclass_that_brings_no_equality_arrives_as_its_base():
    point = namedtuple("point", "a b")
    table = defaultdict(list, a=[1])
    assert there_and_back([point(1, 2), table]) == [(1, 2), {"a": [1]}]


@pytest.mark.parametrize("base", [int, str, list, tuple, dict, set, float])
def test_a_subclass_with_an_equality_of_its_own_equals_nothing(base):
    hostile = type("H", (base,), {"__eq__": lambda *_: True, "__hash__": lambda _: 0})
    arrived = there_and_back(hostile())
    assert isinstance(arrived, decoding.Opaque)
    assert arrived != base() and arrived != arrived


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
    assert there_and_back(i for i in (1, 2)) != [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        [0] * (values.MAX_NODES + 1),
        "a" * (values.MAX_TEXT + 1),
        Decimal("1E+999999999"),
        b"a" * values.MAX_TEXT,
    ],
)
def test_what_is_too_large_is_opaque(value):
    assert isinstance(there_and_back(value), decoding.Opaque)


def test_what_is_too_deep_or_holds_itself_is_opaque():
    deep = []
    for _ in range(values.MAX_DEPTH + 1):
        deep = [deep]
    cycle = []
    cycle.append(cycle)
    assert isinstance(there_and_back(deep), decoding.Opaque)
    assert isinstance(there_and_back(cycle), decoding.Opaque)


@given(documents)
def test_a_hostile_document_is_a_value_or_a_protocol_error(document):
    try:
        decoding.decode(document)
    except ProtocolError:
        pass


@given(st.binary(max_size=200))
def test_hostile_bytes_are_a_value_or_an_error_of_json(data):
    try:
        decoding.decode(json.loads(data))
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
        1.5,
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
    ],
)
def test_a_malformed_document_is_a_protocol_error(document):
    with pytest.raises(ProtocolError):
        decoding.decode(document)


def test_keys_that_share_a_hash_are_refused_before_they_cost_time():
    prime = 2**61 - 1
    items = [{"i": hex(i * prime)} for i in range(2000)]
    with pytest.raises(ProtocolError, match="share a hash"):
        decoding.decode({"s": items})
    with pytest.raises(ProtocolError, match="share a hash"):
        decoding.decode({"d": [part for item in items for part in (item, 1)]})


def test_a_nest_deeper_than_the_bound_is_refused():
    document = 1
    for _ in range(values.MAX_DEPTH + 10):
        document = {"t": [document]}
    with pytest.raises(ProtocolError):
        decoding.decode(document)
