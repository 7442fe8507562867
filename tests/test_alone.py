"""Tests beside others and tests alone: who waits for whom."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.alone import room


@pytest.fixture
def others():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def entered(folder, *, alone, order, leave):
    with room(folder, alone=alone):
        order.append("alone" if alone else "beside")
        assert leave.wait(10)


def waits(future):
    with pytest.raises(TimeoutError):
        future.result(timeout=0.05)


def test_many_tests_run_beside_each_other(tmp_path):
    with room(tmp_path, alone=False), room(tmp_path, alone=False):
        assert {path.name for path in tmp_path.iterdir()} == {"queue", "room"}


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_a_test_alone_waits_for_the_rest_and_the_rest_for_it(tmp_path, others, first, second):
    leave = threading.Event()
    leave.set()
    with room(tmp_path, alone=first):
        other = others.submit(entered, tmp_path, alone=second, order=[], leave=leave)
        waits(other)
    other.result(timeout=10)


def test_nobody_overtakes_a_test_that_waits_to_be_alone(tmp_path, others):
    order, leave = [], threading.Event()
    with room(tmp_path, alone=False):
        alone = others.submit(entered, tmp_path, alone=True, order=order, leave=leave)
        waits(alone)
        late = others.submit(entered, tmp_path, alone=False, order=order, leave=leave)
        waits(late)
        assert order == []
    leave.set()
    alone.result(timeout=10)
    late.result(timeout=10)
    assert order == ["alone", "beside"]
