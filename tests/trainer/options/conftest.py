import math

import pytest

from tests.trainer.finished import Finished
from trainer.options.config import parse_options
from trainer.training.train import train


@pytest.fixture
def run(config_file, hashed_grades):
    """Three steps of an algorithm with some options."""

    def go(algorithm, **changes):
        options = parse_options(config_file(max_steps=3, max_completion_length=8, **changes))
        finished = Finished(train(algorithm, options, say=lambda _: None))
        assert len(finished.metric("loss")) == 3
        assert all(math.isfinite(value) for value in finished.metric("loss"))
        assert max(finished.metric("grad_norm")) > 0.0
        return finished

    return go
