from trainer.step.timing import PhaseClock


class Now:
    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


def test_a_nested_phase_takes_its_time_away_from_the_outer_one():
    now = Now()
    clock = PhaseClock(now=now)
    now.time += 1
    with clock("student"):
        now.time += 10
        with clock("teacher"):
            now.time += 100
        now.time += 20
    now.time += 2
    assert clock.split() == {"rest": 3.0, "student": 30.0, "teacher": 100.0}


def test_a_split_begins_anew_and_within_a_phase_loses_nothing():
    now = Now()
    clock = PhaseClock(now=now)
    with clock("sampling"):
        now.time += 5
        assert clock.split() == {"rest": 0.0, "sampling": 5.0}
        now.time += 7
    assert clock.split() == {"rest": 0.0, "sampling": 7.0}


def test_a_phase_that_fails_still_ends():
    now = Now()
    clock = PhaseClock(now=now)
    try:
        with clock("sandbox"):
            now.time += 1
            raise KeyError
    except KeyError:
        now.time += 1
    assert clock.split() == {"rest": 1.0, "sandbox": 1.0}


def test_an_accelerator_is_waited_for_at_every_boundary():
    waited = []
    clock = PhaseClock(synchronize=lambda: waited.append(1), now=Now())
    with clock("student"):
        pass
    assert len(waited) == 2
