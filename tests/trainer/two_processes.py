"""A run of the tiny model whose completions depend on prompt and place alone, however many processes share it.

Run by tests/trainer/test_two_processes.py, alone and under a launcher: CONFIG FILE as the only argument.
"""

import random
import sys
from pathlib import Path

import trainer.rollouts
import trainer.run
from tests.trainer.fakes import HashSandbox
from trainer.config import parse_options
from trainer.rollout_trainer import RolloutTrainer

N_TOKENS = 10


def generate(self, prompt_ids, *args, **kwargs):
    """Bytes drawn from the prompt and the member's place in its group."""
    first = self.accelerator.process_index * len(prompt_ids)
    completions = []
    for place, ids in enumerate(prompt_ids, start=first):
        generator = random.Random(f"{list(ids)} {place % self.num_generations}")
        drawn = [generator.randrange(33, 90) for _ in range(N_TOKENS)]
        completions.append([*drawn, self.processing_class.eos_token_id])
    return completions, None


def main() -> None:
    RolloutTrainer._generate_single_turn = generate
    trainer.rollouts.grade = HashSandbox().grade
    trainer.run.open_sandbox = lambda backend: HashSandbox()
    trainer.run.train("sdpo", parse_options(Path(sys.argv[1])), say=print)


if __name__ == "__main__":
    main()
