import threading

from evaluator.engines.worker import Work, Worker
from evaluator.problems.mbpp import load_problems
from evaluator.sampling.completions import gold_answers

PROBLEMS = load_problems("embedded/test")


def worker(sandbox):
    answers = tuple(gold_answers(PROBLEMS.problems))
    return Worker(Work(PROBLEMS, answers, graded_together=4), sandbox)


def test_a_slow_batch_of_recorded_answers_makes_no_other_wait(sandbox):
    run, second_ran = sandbox.run, threading.Event()

    def slow_at_first(programs):
        if programs[0].asserts == PROBLEMS.problems[0].asserts:
            assert second_ran.wait(10), "the second batch must be graded beside the first"
        else:
            second_ran.set()
        return run(programs)

    sandbox.run = slow_at_first
    batches = list(worker(sandbox).batches())
    task_ids = [item.answer.problem.task_id for batch in batches for item in batch]
    assert [len(batch) for batch in batches] == [4] * 4
    assert task_ids == [problem.task_id for problem in PROBLEMS.problems]
