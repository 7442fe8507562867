import asyncio

import pytest

from sandbox.http.door import Closing, Door, Full


def door(**others):
    return Door(**{"n_at_work": 1, "n_waiting": 2, "max_bytes": 100, **others})


def test_so_many_requests_come_in_and_no_more():
    house = door()
    for _ in range(3):
        house.enter(1)
    with pytest.raises(Full):
        house.enter(1)
    house.leave(1)
    house.enter(1)


def test_so_many_bytes_come_in_and_one_request_of_any_size():
    house = door()
    house.enter(60)
    with pytest.raises(Full):
        house.enter(41)
    house.enter(40)
    house.leave(60)
    house.leave(40)
    assert (house.n_inside, house.n_bytes) == (0, 0)
    house.enter(1000)


def test_turns_come_in_order_of_arrival():
    async def story():
        house, order = door(), []

        async def visit(name):
            await house.turn(timeout_s=5)
            order.append(name)
            await asyncio.sleep(0)
            house.done()

        await asyncio.gather(*(visit(name) for name in "abcdef"))
        return order, house.n_at_work, house.n_waiting

    assert asyncio.run(story()) == (list("abcdef"), 0, 0)


def test_a_turn_that_does_not_come_in_time_goes_to_the_next():
    async def story():
        house = door()
        await house.turn(timeout_s=5)
        with pytest.raises(Full):
            await house.turn(timeout_s=0.01)
        later = asyncio.create_task(house.turn(timeout_s=5))
        await asyncio.sleep(0)
        house.done()
        await later
        house.done()
        return house.n_at_work, house.n_waiting

    assert asyncio.run(story()) == (0, 0)


def test_whoever_is_cancelled_with_the_turn_in_hand_gives_it_back():
    async def story():
        house = door()
        await house.turn(timeout_s=5)
        waits = asyncio.create_task(house.turn(timeout_s=5))
        await asyncio.sleep(0)
        house.done()  # the turn is given, and not yet taken
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        await house.turn(timeout_s=0.01)
        return house.n_at_work

    assert asyncio.run(story()) == 1


def test_closing_sends_away_who_waits_and_leaves_who_is_at_work():
    async def story():
        house = door()
        house.enter(1)
        await house.turn(timeout_s=5)
        waits = asyncio.create_task(house.turn(timeout_s=5))
        await asyncio.sleep(0)
        house.close()
        with pytest.raises(Closing):
            await waits
        with pytest.raises(Closing):
            house.enter(1)
        with pytest.raises(Closing):
            await house.turn(timeout_s=5)
        return house.n_at_work

    assert asyncio.run(story()) == 1
