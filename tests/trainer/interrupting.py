"""A run that is cut off as by a kill, but within its process and where the test wants it."""

from transformers import TrainerCallback


class Interrupted(Exception):
    """What cuts it off."""


class InterruptAfter(TrainerCallback):
    """Cuts the run off once the checkpoint of a step is whole."""

    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Interrupted
