import ast

import pytest

from sandbox.guest.protocol import Call
from sandbox.judge import asserts
from sandbox.judge.decode import Opaque, Unjudged


def judged(source, *shipped, callables=("f",)):
    parsed = asserts.parse(source, callables)
    assert parsed.trusted, source
    return parsed.test.evaluate(shipped, [])


def test_only_the_call_goes_inside():
    parsed = asserts.parse("assert f([1, 2], k='x') == [3, 4]", ("f",))
    assert parsed.calls == (Call("f([1, 2], k='x')"),)
    assert parsed.expected == "[3, 4]"


def test_nothing_of_the_expected_side_goes_inside():
    parsed = asserts.parse("assert set(f(1)) == set([12345, 67890]) and f(2) in (777,)", ("f",))
    sent = " ".join(call.source for call in parsed.calls)
    assert not any(word in sent for word in ("12345", "67890", "777"))


def test_an_outer_call_takes_the_inner_ones_along():
    parsed = asserts.parse("assert f(Node(1), f(2)) == 3", ("f", "Node"))
    assert [call.source for call in parsed.calls] == ["f(Node(1), f(2))"]


@pytest.mark.parametrize(
    ("source", "shipped", "holds"),
    [
        ("assert f(1) == 2", [2], True),
        ("assert f(1) == 2", [3], False),
        ("assert f(1) == 2", [2.0], True),
        ("assert f(1) == [1.5, 'a', None, True]", [[1.5, "a", None, 1]], True),
        ("assert f(1) == (1,)", [[1]], False),
        ("assert not f(1)", [0], True),
        ("assert f(1)", [[]], False),
        ("assert f(1) < 3 <= f(2)", [2, 3], True),
        ("assert f(1) in {'a': 1}", ["a"], True),
        ("assert len(f(1)) == 2 and f(2) or f(3)", [[1, 2], 0, 1], True),
        ("assert f(1)[0:2] == [1, 2]", [[1, 2, 3][0:2]], True),
        ("assert (f(1), [f(2)]) == (1, [2])", [1, 2], True),
        ("assert -f(1) == ~1 + 1", [1], True),
        ("assert isinstance(f(1), int)", ["1"], False),
        ("assert f(1) == 10 ** 3 % 7 - 2 * 3", [0], True),
        ("assert math.isclose(f(1), math.pi, rel_tol=1e-3)", [3.1416], True),
        ("assert f(1) is not None", [0], True),
        ("assert sorted(f(1), reverse=True) == [2, 1]", [[1, 2]], True),
    ],
)
def test_what_is_left_is_evaluated_as_python_would(source, shipped, holds):
    assert bool(judged(source, *shipped)) is holds


def test_a_value_that_compares_by_identity_equals_nothing():
    assert not judged("assert f(1) == 2", Opaque("x", "2", True))
    assert not judged("assert f(1) in [1, 2]", Opaque("x", "2", True))


@pytest.mark.parametrize(
    "source",
    [
        "assert f(1) == 2",
        "assert f(1) in [2]",
        "assert f(1) < 3",
        "assert f(1) + 1 == 3",
        "assert len(f(1)) == 3",
        "assert list(f(1)) == [2]",
        "assert 2 in f(1)",
        "assert ' '.join(f(1)) == 'a b'",
        "assert sum(f(1)) == 2",
        "assert round(f(1)) == 2",
        "assert {f(1): 1}[2] == 1",
    ],
)
def test_what_a_value_that_is_not_here_cannot_answer_has_no_verdict(source):
    with pytest.raises((Unjudged, KeyError)):
        judged(source, Opaque("Money", "<Money>", True, False))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("assert f(1) == f(1)", "with each other"),
        ("assert f(1) + 1 == f(2)", "with each other"),
        ("assert all(f(i) == f(i) for i in range(3))", "with each other"),
        ("assert True", "calls no function"),
        ("assert g(1) == 2", "calls no function that is asked for (f)"),
        ("assert f == 1", "calls no function"),
        ("assert f(1) == expected", "names expected"),
        ("assert f(1) is f", "singleton"),
        ("assert f(1) is 1000", "singleton"),
        ("assert max([1], key=lambda x: f(x)) == 1", "depends on x"),
        ("assert [f(i) for i in range(3) if f(i)] == [1]", "depends on i"),
        ("assert [[f(i, j) for i in range(j)] for j in range(3)] == [1]", "depends on"),
        ("assert eval(f(1)) == 1", "names eval"),
        ("assert (f(1) + 'x').format(2) == '1'", "uses .format"),
        ("assert sorted(f(1)).__class__ == 1", "uses .__class__"),
        ("assert open(f(1)) == 1", "names open"),
        ("assert (await f(1)) == 1", "has a Await"),
    ],
)
def test_any_other_shape_is_not_trusted_and_says_why(source, reason):
    parsed = asserts.parse(source, ("f",))
    assert not parsed.trusted and len(parsed.calls) == 1
    assert reason in parsed.reason


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("assert type(f(1)) == tuple", ["type(f(1))"]),
        ("assert type(f(1)) is tuple", ["type(f(1))"]),
        ("assert repr(f(1)) == '1'", ["repr(f(1))"]),
        ("assert next(f(1)) == 1", ["next(f(1))"]),
        ("assert f'{f(1):>3}' == '  1'", ["f'{f(1):>3}'"]),
        ("assert '%s %s' % (f(1), f(2)) == '1 2'", ["'%s %s' % (f(1), f(2))"]),
        ("assert '{}'.format(f(1)) == '1'", ["'{}'.format(f(1))"]),
        ("assert f(1)[0].real == 1", ["f(1)[0].real"]),
        ("assert f([i for i in range(3)]) == 1", ["f([i for i in range(3)])"]),
        ("assert [f(i) for i in range(3)] == [0]", ["[f(i) for i in range(3)]"]),
        ("assert all(f(i) == i * i for i in range(3))", ["[f(i) for i in range(3)]"]),
    ],
)
def test_what_only_the_value_itself_can_answer_goes_inside(source, calls):
    parsed = asserts.parse(source, ("f",))
    assert parsed.trusted
    assert [call.source for call in parsed.calls] == calls


@pytest.mark.parametrize(
    ("source", "shipped", "holds"),
    [
        ("assert max(f(1), key=lambda x: -x) == 1", [[2, 1, 3]], True),
        ("assert ''.join(f(1)) == 'ab'", [["a", "b"]], True),
        ("assert max(*f(1)) == 2", [[1, 2]], True),
        ("assert dict(**f(1)) == {'a': 1}", [{"a": 1}], True),
        ("assert (x := f(1)) == x + 0", [1], True),
        ("assert [x * 2 for x in f(1) if x] == [4]", [[0, 2]], True),
        ("assert [f(i) for i in range(3)] == [0, 1, 4]", [[0, 1, 4]], True),
        ("assert all(f(i) == i * i for i in range(3))", [[0, 1, 5]], False),
        ("assert divmod(f(1), 2) == (3, 1)", [7], True),
        ("assert pow(f(1), 2, 5) == 4", [7], True),
        ("assert f(1) << 2 == 4 and f(2) ** 2 == 9", [1, 3], True),
        ("assert sorted(set(f(1)).union([3])) == [1, 3]", [[1]], True),
        ("assert collections.Counter(f(1)) == Counter('aab')", ["aba"], True),
        ("assert type(f(1)) is int", [int], True),
        ("assert type(f(1)) in (int, float)", [str], False),
    ],
)
def test_any_expression_of_values_means_what_python_says(source, shipped, holds):
    assert bool(judged(source, *shipped)) is holds


def test_what_needs_the_interpreter_is_an_aside():
    parsed = asserts.parse("assert f((1,)) == sys.getsizeof((1,)) + 1", ("f",))
    assert parsed.trusted and parsed.asides == ("sys.getsizeof((1,))",)
    assert parsed.test.evaluate([49], [48])


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("assert int(f(1)) == 1", "9" * 10_000),
        ("assert f(1) + 1 == 2", "a"),
        ("assert 1 / f(1) == 2", 0),
        ("assert sorted(f(1)) == []", [1, "a"]),
        ("assert f(1) < 3", None),
    ],
)
def test_what_is_impossible_raises_as_in_python(source, value):
    with pytest.raises((TypeError, ValueError, ArithmeticError, LookupError)):
        judged(source, value, value)


@pytest.mark.parametrize(
    ("source", "cheap"),
    [
        ("assert f(1) == [1, {'a': 2}]", True),
        ("assert set(f(1)) == set([1])", True),
        ("assert math.isclose(f(1), 2.5, rel_tol=0.001)", True),
        ("assert not f(1) and f(2) in (1, 2)", True),
        ("assert round(f(1), 2) == 1.25", True),
        ("assert sorted(f(1), reverse=True)[0] == 1", True),
        ("assert round(f(1), -1000000) == 1", False),
        ("assert round(f(1), f(2)) == 1", False),
        ("assert f(1) * 2 == 4", False),
        ("assert f(1) ** 2 == 4", False),
        ("assert f(1) << 2 == 4", False),
        ("assert f(1) % 2 == 0", False),
        ("assert bytes(f(1)) == b''", False),
        ("assert [0] * f(1) == []", False),
        ("assert sum(f(1), []) == []", False),
        ("assert sorted(f(1), key=lambda x: x * 2) == []", False),
        ("assert f'{len(f(1)) == 1:{f(2)}}' == ''", False),
    ],
)
def test_only_what_takes_no_more_than_the_size_of_its_values_is_cheap(source, cheap):
    assert asserts.parse(source, ("f",)).test.cheap is cheap


@pytest.mark.parametrize(
    "source", ["", "x", "assert", "assert f(1); assert f(2)", "assert f(1) == '\0'"]
)
def test_what_is_no_assert_is_refused(source):
    with pytest.raises(SyntaxError):
        asserts.parse(source, ("f",))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("assert f(1) == {'a': 1}", "{'a': 1}"),
        ("assert f(1)", "a true value"),
        ("assert not f(1)", "a false value"),
        ("assert f(1) != 3", "other than 3"),
        ("assert f(1) in (1, 2)", "one of (1, 2)"),
    ],
)
def test_what_is_expected_is_said_in_the_asserts_words(source, expected):
    assert asserts.parse(source, ("f",)).expected == expected


def test_parsing_leaves_no_trace_in_the_source_of_the_call():
    parsed = asserts.parse("assert list(f(x=(1,))) == [1]", ("f",))
    assert parsed.calls == (Call("f(x=(1,))", iterate=True),)
    assert ast.parse(parsed.calls[0].source)
