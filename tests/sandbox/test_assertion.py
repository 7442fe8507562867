import ast

import pytest

from sandbox import assertion, evaluation
from sandbox.decoding import Opaque
from sandbox.guest.protocol import Call


def judged(source, *shipped, callables=("f",)):
    parsed = assertion.parse(source, callables)
    assert parsed.trusted, source
    return evaluation.evaluate(parsed.test, shipped, [])


def test_only_the_call_goes_inside():
    parsed = assertion.parse("assert f([1, 2], k='x') == [3, 4]", ("f",))
    assert parsed.calls == (Call("f([1, 2], k='x')"),)
    assert parsed.expected == "[3, 4]"


def test_nothing_of_the_expected_side_goes_inside():
    parsed = assertion.parse("assert set(f(1)) == set([12345, 67890]) and f(2) in (777,)", ("f",))
    sent = " ".join(call.source for call in parsed.calls)
    assert not any(word in sent for word in ("12345", "67890", "777"))


def test_an_outer_call_takes_the_inner_ones_along():
    parsed = assertion.parse("assert f(Node(1), f(2)) == 3", ("f", "Node"))
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


def test_an_opaque_value_equals_nothing():
    assert not judged("assert f(1) == 2", Opaque("x", "2", True))
    assert not judged("assert f(1) in [1, 2]", Opaque("x", "2", True))


@pytest.mark.parametrize(
    "source",
    [
        "assert f(1) == f(1)",
        "assert True",
        "assert g(1) == 2",
        "assert f == 1",
        "assert [f(i) for i in range(3)] == [0]",
        "assert max(f(1), key=lambda x: x) == 1",
        "assert f(1) is f",
        "assert f(1) is 1000",
        "assert ''.join(f(1)) == 'a'",
        "assert sum(*f(1)) == 1",
        "assert dict(**f(1)) == {}",
        "assert f'{f(1)}' == '1'",
        "assert (x := f(1)) == 1",
    ],
)
def test_any_other_shape_is_not_trusted(source):
    parsed = assertion.parse(source, ("f",))
    assert not parsed.trusted and len(parsed.calls) == 1


def test_what_needs_the_interpreter_is_an_aside():
    parsed = assertion.parse("assert f((1,)) == sys.getsizeof((1,)) + 1", ("f",))
    assert parsed.trusted and parsed.asides == ("sys.getsizeof((1,))",)
    assert evaluation.evaluate(parsed.test, [49], [48])


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("assert f(1) * 10 ** 9 == 'a'", "a" * 1000),
        ("assert f(1) ** 10 ** 9 == 1", 10**30),
        ("assert f(1) % 5 == ''", "%999999999d"),
        ("assert [0] * f(1) == []", 10**12),
        ("assert int(f(1)) == 1", "9" * 10_000),
        ("assert f(1) + 1 == 2", "a"),
        ("assert 1 / f(1) == 2", 0),
        ("assert sorted(f(1)) == []", [1, "a"]),
        ("assert f(1) < 3", None),
        ("assert type(f(1), f(2)) == 1", 1),
    ],
)
def test_what_a_value_could_make_expensive_or_impossible_raises(source, value):
    with pytest.raises((TypeError, ValueError, ArithmeticError, LookupError)):
        judged(source, value, value)


@pytest.mark.parametrize(
    "source", ["", "x", "assert", "assert f(1); assert f(2)", "assert f(1) == '\0'"]
)
def test_what_is_no_assert_is_refused(source):
    with pytest.raises(SyntaxError):
        assertion.parse(source, ("f",))


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
    assert assertion.parse(source, ("f",)).expected == expected


def test_parsing_leaves_no_trace_in_the_source_of_the_call():
    parsed = assertion.parse("assert list(f(x=(1,))) == [1]", ("f",))
    assert parsed.calls == (Call("f(x=(1,))", iterate=True),)
    assert ast.parse(parsed.calls[0].source)
