"""A run of the tiny model whose completions depend on prompt and place alone, however many processes share it.

Run by tests/trainer/training/test_two_processes.py, alone and under a launcher; see `main` for its arguments.
"""

import os
import random
import sys
import time
from pathlib import Path

import trainer.rollouts.rollouts
import trainer.training.train
from tests.trainer.fakes import HashSandbox
from tests.trainer.interrupting import InterruptAfter, Interrupted
from trainer.options.config import ConfigError, parse_options
from trainer.step.rollout_trainer import RolloutTrainer

N_TOKENS = 10


def generate(self, prompt_ids, *args, **kwargs):
    """Bytes drawn from the prompt and the member's place in its group."""
    first = self.accelerator.process_index * len(prompt_ids)
    completions = []
    for place, ids in enumerate(prompt_ids, start=first):
        generator = random.Random(f"{list(ids)} {place % self.num_generations}")
        drawn = [generator.randrange(33, 90) for _ in range(generator.randrange(N_TOKENS + 1))]
        completions.append([*drawn, self.processing_class.eos_token_id])
    return completions, None


def main() -> None:
    """CONFIG FILE [--algorithm NAME] [--scripted] [--interrupt-after STEP], or --resume FOLDER."""
    words = sys.argv[1:]
    if "--scripted" in words:
        RolloutTrainer._generate_single_turn = generate
    trainer.rollouts.rollouts.grade = HashSandbox().grade
    trainer.training.train.open_sandbox = lambda backend: HashSandbox()
    if words[0] == "--resume":
        try:
            trainer.training.train.resume(Path(words[1]), say=print)
        except ConfigError as error:
            raise SystemExit(str(error)) from error
        return
    prepare = None
    if "--interrupt-after" in words:
        step = int(words[words.index("--interrupt-after") + 1])

        def prepare(built):
            built.add_callback(InterruptAfter(step))

    algorithm = words[words.index("--algorithm") + 1] if "--algorithm" in words else "sdpo"
    try:
        trainer.training.train.train(
            algorithm, parse_options(Path(words[0])), say=print, prepare=prepare
        )
    except Interrupted:
        _wait_for_the_others(Path(words[0]).parent)


def _wait_for_the_others(folder: Path) -> None:
    """A process that ends at once takes its connections from one that still saves: that one would fail."""
    (folder / f"interrupted-{os.environ['RANK']}").touch()
    end = time.monotonic() + 300
    while len(list(folder.glob("interrupted-*"))) < int(os.environ["WORLD_SIZE"]):
        if time.monotonic() > end:
            raise TimeoutError("the other process did not save its checkpoint")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
