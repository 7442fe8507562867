from rich.progress import Progress

from evaluator.cli.terminal import Bar


def test_a_bar_says_what_is_sampled_until_it_is_done():
    with Progress(disable=True) as progress:
        bar = Bar(progress, "eval a", 300)
        (task,) = progress.tasks
        bar.sampled(3)
        bar.sampled(4)
        assert (task.description, task.completed) == ("eval a, 7 more sampled", 0)
        bar(256)
        assert (task.description, task.completed) == ("eval a", 256)
