"""A run of the tiny model whose completions depend on prompt and place alone, however many processes share it.

Run by tests/trainer/test_two_processes.py, alone and under a launcher: CONFIG FILE as the only argument.
"""

import random
import sys
from pathlib import Path

import trainer.rollouts
import trainer.run
from evaluator.extract import Extraction
from evaluator.grade import Grade
from sandbox.program import Program
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


def grade(pairs, sandbox, *, timeout_s):
    return [
        Grade(
            problem=problem,
            completion=text,
            extraction=Extraction(code=text, reason=None, n_blocks=1),
            execution=sandbox.run(
                [Program(code=text, asserts=problem.asserts, callables=problem.callables)]
            )[0],
        )
        for problem, text in pairs
    ]


def main() -> None:
    RolloutTrainer._generate_single_turn = generate
    trainer.rollouts.grade = grade
    trainer.run.open_sandbox = lambda backend: HashSandbox()
    trainer.run.train("sdpo", parse_options(Path(sys.argv[1])), say=print)


if __name__ == "__main__":
    main()
