"""A reward and a feedback function for `--reward` and `--feedback`."""

from evaluator.grading.feedback import feedback
from evaluator.grading.grade import Grade
from evaluator.grading.reward import Part, correctness, format_score


def brief(grade: Grade, completion: str) -> list[Part]:
    """Reward passed tests and format, and subtract a little for each hundred characters."""
    return [
        Part("correctness", correctness(grade)),
        Part("format", format_score(grade), weight=0.3),
        Part("brevity", -len(completion) / 100, weight=0.01),
    ]


def first_line(grade: Grade, completion: str) -> str:
    """Tell the teacher how many tests fail, and nothing else about them."""
    return (feedback(grade) or "").partition("\n")[0]
