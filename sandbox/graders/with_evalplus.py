"""EvalPlus (pip install evalplus) as a grader.

It takes inputs and outputs, so only asserts of the form `f(..) == literal` can be put to it.
"""

import ast
import json
import sys


def main() -> None:
    """Read a question on standard input, write the verdict to standard output."""
    from evalplus.eval import PASS, untrusted_check

    question = json.load(sys.stdin)
    try:
        pairs = [_pair(line, question["entry_point"]) for line in question["asserts"]]
    except ValueError:
        pairs = []
    if question["setup_code"] or not pairs:
        print(json.dumps({"passed": None}))
        return
    code = "\n".join([*question["imports"], question["code"]])
    # Its own rule is the larger of a floor and a multiple of the reference's time: here both are the limit asked for.
    status, _ = untrusted_check(
        "humaneval",
        code,
        [pair[0] for pair in pairs],
        question["entry_point"],
        [pair[1] for pair in pairs],
        0,
        [question["timeout_s"]] * len(pairs),
        True,
        question["timeout_s"],
        1.0,
    )
    print(json.dumps({"passed": status == PASS}))


def _pair(line: str, entry_point: str) -> "tuple[list[object], object]":
    """Arguments and expected value of an assert.

    Raises:
        ValueError: it is of another form.
    """
    match ast.parse(line).body:
        case [
            ast.Assert(
                test=ast.Compare(
                    left=ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]),
                    ops=[ast.Eq()],
                    comparators=[expected],
                )
            )
        ] if name == entry_point:
            return [ast.literal_eval(part) for part in arguments], ast.literal_eval(expected)
    raise ValueError(line)


if __name__ == "__main__":
    main()
