"""What the demo's functions are about (numbers, letters, words) and the three arguments that each is tried with."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

Value = int | str | list[int] | dict[str, int]
Parameters = Mapping[str, int | str]

WORDS = (
    "apple bridge candle dragon forest garden hammer island jungle kettle lemon market needle orange "
    "pencil rocket"
).split()
LETTERS = "bdfgkmpstvwz"


def numbers(low: int = 2, high: int = 20) -> tuple[Parameters, ...]:
    """Each whole number of a range, both ends included, as `k`."""
    return tuple({"k": k} for k in range(low, high + 1))


def letters() -> tuple[Parameters, ...]:
    """Each letter, as `c`."""
    return tuple({"c": c} for c in LETTERS)


def pairs() -> tuple[Parameters, ...]:
    """Two letters, in some of the orders."""
    return tuple({"c": c, "d": d} for c in LETTERS for d in LETTERS[::3] if c != d)[:24]


def words() -> tuple[Parameters, ...]:
    """Each word, as `w`."""
    return tuple({"w": word} for word in WORDS)


def any_numbers(random: Random, parameters: Parameters) -> list[Value]:
    """Three numbers, of which none makes two arithmetic operations agree by chance."""
    return [*random.sample(range(3, 10), 2), random.randrange(21, 40)]


def around(random: Random, parameters: Parameters) -> list[Value]:
    """The bound itself, below and above it: an off-by-one comparison shows at the first."""
    k = int(parameters["k"])
    return [k, k - random.randrange(1, 3), k + random.randrange(1, 5)]


def any_words(random: Random, parameters: Parameters) -> list[Value]:
    """Three words."""
    return list(random.sample(WORDS, 3))


def with_letter(random: Random, parameters: Parameters) -> list[Value]:
    """Words that begin with the letter, that end with it, and without it."""
    c = str(parameters["c"])
    first, second, third = random.sample([word for word in WORDS if c not in word], 3)
    return [c + first, second + c, third]


def lists(random: Random, parameters: Parameters) -> list[Value]:
    """Three lists of different digits."""
    return [random.sample(range(1, 10), n) for n in (2, 3, 2)]


def lists_around(random: Random, parameters: Parameters) -> list[Value]:
    """Three lists of numbers at, below and above the bound."""
    k = int(parameters["k"])
    return [[k, k + 1], [k - 1, k + random.randrange(2, 5)], [k + 2, k, k - 1]]


def tables(random: Random, parameters: Parameters) -> list[Value]:
    """Two tables that hold the word, one that does not."""
    word = str(parameters["w"])
    first, second = random.sample([w for w in WORDS if w != word], 2)
    a, b, c = random.sample(range(1, 10), 3)
    return [{word: a}, {first: b, word: c}, {second: a}]


def below(random: Random, parameters: Parameters) -> list[Value]:
    """The bound itself and two numbers below it."""
    k = int(parameters["k"])
    return [k, k - 1, k - random.choice((2, 3))]
