"""What the demo's problems ask: families of small functions, each with its wordings, truth and usual bugs.

The expected values of a problem's asserts come from `truth`, which is Python of ours; the reference and
the bugs are text that only the sandbox runs. So running the references there compares two statements of
the same thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from trainer.demo.arguments import (
    WORDS,
    Parameters,
    Value,
    any_numbers,
    any_words,
    around,
    below,
    letters,
    lists,
    lists_around,
    numbers,
    pairs,
    tables,
    with_letter,
    words,
)


@dataclass(frozen=True)
class Family:
    """One kind of function; texts hold `{k}` (a number), `{c}` and `{d}` (letters), `{w}` (a word)."""

    key: str
    wordings: tuple[str, ...]
    names: tuple[str, ...]
    right: str
    """Body of the true solution; lines are indented when it is put into a function."""
    bugs: tuple[str, ...]
    """Wrong bodies; the first is this family's usual mistake."""
    truth: Callable[..., object]
    """(argument, parameters) -> what the true solution returns."""
    argument: str = "n"
    """Name of the function's one parameter."""
    arguments: Callable[[Random, Parameters], list[Value]] = any_numbers
    """Three arguments such that every bug fails at least one of them."""
    parameters: tuple[Parameters, ...] = numbers()


FAMILIES = (
    Family(
        "add",
        (
            "Write a function to add {k} to a number.",
            "Write a function that returns a number plus {k}.",
            "Increase a number by {k}.",
        ),
        ("add_to", "plus_value", "increase"),
        "return n + {k}",
        ("return n - {k}", "return n * {k}"),
        lambda n, p: n + p["k"],
    ),
    Family(
        "subtract",
        (
            "Write a function to subtract {k} from a number.",
            "Write a function that returns a number minus {k}.",
            "Decrease a number by {k}.",
        ),
        ("take_from", "minus_value", "decrease"),
        "return n - {k}",
        ("return {k} - n", "return n + {k}"),
        lambda n, p: n - p["k"],
        arguments=lambda r, p: [
            int(p["k"]) + r.randrange(1, 9),
            r.randrange(22, 40),
            r.randrange(41, 50),
        ],
    ),
    Family(
        "multiply",
        (
            "Write a function to multiply a number by {k}.",
            "Write a function that returns {k} times a number.",
            "Scale a number by the factor {k}.",
        ),
        ("times_value", "multiply_by", "scale_number"),
        "return n * {k}",
        ("return n + {k}", "return n ** {k}"),
        lambda n, p: n * p["k"],
    ),
    Family(
        "remainder",
        (
            "Write a function to find the remainder of a number divided by {k}.",
            "Write a function that returns a number modulo {k}.",
            "What is left of a number after division by {k}?",
        ),
        ("remainder_of", "modulo_value", "left_over"),
        "return n % {k}",
        ("return n // {k}", "return n - {k}"),
        lambda n, p: n % p["k"],
        arguments=lambda r, p: [
            int(p["k"]) - 1,
            int(p["k"]) * 3,
            int(p["k"]) * r.randrange(4, 7) + 1,
        ],
        parameters=numbers(3),
    ),
    Family(
        "above",
        (
            "Write a function to check if a number is greater than {k}.",
            "Write a function that tells whether a number is above {k}.",
            "Is a number larger than {k}?",
        ),
        ("is_above", "is_greater", "exceeds"),
        "return n > {k}",
        ("return n >= {k}", "return n < {k}"),
        lambda n, p: n > p["k"],
        arguments=around,
    ),
    Family(
        "at_most",
        (
            "Write a function to check if a number is at most {k}.",
            "Write a function that tells whether a number is not above {k}.",
            "Is a number {k} or less?",
        ),
        ("is_at_most", "within_limit", "not_above"),
        "return n <= {k}",
        ("return n < {k}", "return n >= {k}"),
        lambda n, p: n <= p["k"],
        arguments=around,
    ),
    Family(
        "larger",
        (
            "Write a function to find the larger of a number and {k}.",
            "Write a function that returns a number, but never less than {k}.",
            "Raise a number to at least {k}.",
        ),
        ("larger_of", "at_least", "raise_to"),
        "return max(n, {k})",
        ("return min(n, {k})", "return max(n)"),
        lambda n, p: max(n, p["k"]),
        arguments=around,
    ),
    Family(
        "up_to",
        (
            "Write a function to list the numbers from n to {k}, {k} included.",
            "Write a function that returns all numbers from n up to {k}.",
            "Count from a number to {k}, both included.",
        ),
        ("numbers_to", "count_up", "list_up_to"),
        "end = {k} + 1\nreturn list(range(n, end))",
        ("end = {k}\nreturn list(range(n, end))", "end = {k} + 1\nreturn list(range(end, n))"),
        lambda n, p: list(range(n, p["k"] + 1)),
        arguments=below,
        parameters=numbers(4),
    ),
    Family(
        "append_letter",
        (
            'Write a function to put the letter "{c}" at the end of a text.',
            'Write a function that returns a text followed by "{c}".',
            'Append "{c}" to a text.',
        ),
        ("end_with", "append_letter", "add_suffix"),
        'return text + "{c}"',
        ('return "{c}" + text', 'return text.join("{c}")'),
        lambda text, p: text + p["c"],
        argument="text",
        arguments=any_words,
        parameters=letters(),
    ),
    Family(
        "prepend_letter",
        (
            'Write a function to put the letter "{c}" at the start of a text.',
            'Write a function that returns "{c}" followed by a text.',
            'Put "{c}" before a text.',
        ),
        ("start_with", "prepend_letter", "add_prefix"),
        'return "{c}" + text',
        ('return text + "{c}"', 'return text[1:] + "{c}"'),
        lambda text, p: p["c"] + text,
        argument="text",
        arguments=any_words,
        parameters=letters(),
    ),
    Family(
        "count_letter",
        (
            'Write a function to count the letter "{c}" in a text.',
            'Write a function that returns how often "{c}" stands in a text.',
            'How many times does "{c}" occur in a text?',
        ),
        ("count_letter", "how_often", "letter_total"),
        'return text.count("{c}")',
        ('return text.find("{c}")', 'return text.index("{c}")'),
        lambda text, p: text.count(p["c"]),
        argument="text",
        arguments=with_letter,
        parameters=letters(),
    ),
    Family(
        "starts",
        (
            'Write a function to check if a text starts with "{c}".',
            'Write a function that tells whether a text begins with "{c}".',
            'Is "{c}" the first letter of a text?',
        ),
        ("starts_so", "begins_with", "has_first"),
        'return text.startswith("{c}")',
        ('return text.endswith("{c}")', 'return "{c}".startswith(text)'),
        lambda text, p: text.startswith(p["c"]),
        argument="text",
        arguments=with_letter,
        parameters=letters(),
    ),
    Family(
        "contains",
        (
            'Write a function to check if a text contains "{c}".',
            'Write a function that tells whether "{c}" is in a text.',
            'Does a text hold the letter "{c}"?',
        ),
        ("has_letter", "contains_letter", "holds"),
        'return "{c}" in text',
        ('return "{c}" not in text', 'return text in "{c}"'),
        lambda text, p: p["c"] in text,
        argument="text",
        arguments=with_letter,
        parameters=letters(),
    ),
    Family(
        "replace",
        (
            'Write a function to replace "{c}" by "{d}" in a text.',
            'Write a function that returns a text with "{d}" for every "{c}".',
            'Change each "{c}" of a text to "{d}".',
        ),
        ("replace_letter", "swap_in", "change_letter"),
        'return text.replace("{c}", "{d}")',
        ('return text.replace("{d}", "{c}")', 'return text.strip("{c}", "{d}")'),
        lambda text, p: text.replace(p["c"], p["d"]),
        argument="text",
        arguments=with_letter,
        parameters=pairs(),
    ),
    Family(
        "append_item",
        (
            "Write a function to put {k} at the end of a list.",
            "Write a function that returns a list followed by {k}.",
            "Append {k} to a list.",
        ),
        ("append_item", "add_last", "extend_by"),
        "return items + [{k}]",
        ("return [{k}] + items", "return items.append({k})"),
        lambda items, p: [*items, p["k"]],
        argument="items",
        arguments=lists,
        parameters=numbers(11),
    ),
    Family(
        "sum_plus",
        (
            "Write a function to add {k} to the sum of a list.",
            "Write a function that returns the sum of a list plus {k}.",
            "Sum a list and add {k}.",
        ),
        ("sum_plus", "total_with", "list_total"),
        "total = sum(items)\nreturn total + {k}",
        ("total = sum(items)\nreturn total - {k}", "total = len(items)\nreturn total + {k}"),
        lambda items, p: sum(items) + p["k"],
        argument="items",
        arguments=lists,
    ),
    Family(
        "scale_list",
        (
            "Write a function to multiply each number of a list by {k}.",
            "Write a function that returns a list with every number times {k}.",
            "Scale all numbers of a list by {k}.",
        ),
        ("scale_list", "times_each", "multiply_all"),
        "return [x * {k} for x in items]",
        ("return [x + {k} for x in items]", "return items * {k}"),
        lambda items, p: [x * p["k"] for x in items],
        argument="items",
        arguments=lambda r, p: [r.sample(range(3, 10), n) for n in (2, 3, 2)],
        parameters=numbers(3, 12),
    ),
    Family(
        "keep_above",
        (
            "Write a function to keep the numbers of a list that are greater than {k}.",
            "Write a function that returns the numbers of a list above {k}.",
            "Filter a list for numbers larger than {k}.",
        ),
        ("keep_above", "filter_larger", "only_above"),
        "return [x for x in items if x > {k}]",
        ("return [x for x in items if x >= {k}]", "return [x for x in items if x < {k}]"),
        lambda items, p: [x for x in items if x > p["k"]],
        argument="items",
        arguments=lists_around,
    ),
    Family(
        "look_up",
        (
            'Write a function to look up "{w}" in a dictionary, 0 where it is missing.',
            'Write a function that returns the value of "{w}" in a dictionary, or 0.',
            'Get "{w}" from a dictionary with 0 as the default.',
        ),
        ("look_up", "value_of", "get_entry"),
        'return table.get("{w}", 0)',
        ('return table["{w}"]', 'return table.get(0, "{w}")'),
        lambda table, p: table.get(p["w"], 0),
        argument="table",
        arguments=tables,
        parameters=words(),
    ),
    Family(
        "without",
        (
            'Write a function to cut a text at the first "{c}" and return what stands before it.',
            'Write a function that returns the part of a text before "{c}".',
            'Return a text up to the letter "{c}".',
        ),
        ("part_before", "cut_at", "until_letter"),
        'parts = text.split("{c}")\nreturn parts[0]',
        (
            'parts = text.split("{c}")\nreturn parts[1]',
            'parts = text.split("{c}")\nreturn parts[-1]',
        ),
        lambda text, p: text.split(p["c"])[0],
        argument="text",
        arguments=lambda r, p: [
            a + str(p["c"]) + b
            for a, b in zip(
                *(iter(r.sample([w for w in WORDS if str(p["c"]) not in w], 6)),) * 2, strict=True
            )
        ],
        parameters=letters(),
    ),
)
