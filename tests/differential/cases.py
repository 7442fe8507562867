"""Draws functions, what they return, and asserts about that: the cases that two judges must answer alike."""

from hypothesis import strategies as st

IMPORTS = (
    "import collections, datetime, enum, functools, itertools, math, re",
    "from array import array",
    "from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString",
    "from collections import defaultdict, deque, namedtuple",
    "from dataclasses import dataclass",
    "from decimal import Decimal",
    "from fractions import Fraction",
    "from pathlib import PurePosixPath",
    "from types import MappingProxyType, SimpleNamespace",
    "from uuid import UUID",
)
"""What the asserts may name, for both judges."""

DEFINITIONS = """
Point = namedtuple("Point", "x y")
@dataclass
class Pair:
    a: int
    b: int = 2
@dataclass(frozen=True, order=True)
class Key:
    a: int
class Color(enum.Enum):
    RED = 1
class Level(enum.IntEnum):
    LOW = 1
class Mode(enum.StrEnum):
    A = "a"
class Money(int): pass
class Name(str): pass
class Names(list): pass
class Thing: pass
class Bag:
    def __init__(self, items): self.items = items
    def __iter__(self): return iter(self.items)
class Sized(Bag):
    def __len__(self): return len(self.items)
    def __getitem__(self, index): return self.items[index]
class Vector:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return getattr(other, "x", other) == self.x
def nested(n):
    value = []
    for _ in range(n):
        value = [value]
    return value
def table(n): return {0: table(n - 1)} if n else {}
def counted(items):
    for item in items:
        yield item
def ends_badly():
    yield 1
    raise KeyError("x")
def cycle():
    items = []
    items.append(items)
    return items
"""
"""What the drawn functions may use; the asserts cannot name it."""

NUMBERS = """
0 1 2 3 -1 7 255 10**6 2**53 2**53+1 -2**63 2**100 10**30 True False 0.0 -0.0 1.0 0.5 1.5 2.675 -2.5 1e300
0.1+0.2 1/3 float('inf') float('-inf') float('nan') math.nan math.pi 1j (1+2j) Fraction(1,2) Fraction(7,3)
Fraction(4,1) Decimal('0.1') Decimal('1.50') Decimal('2') Decimal('NaN') Decimal('Infinity')
""".split()
TEXTS = [
    "''",
    "'a'",
    "'ab'",
    "'abc'",
    "'1'",
    "'1.5'",
    "'A b'",
    "'%s'",
    "'{}'",
    "'é'",
    "'\\ud800'",
    "'\\x00'",
]
OTHERS = """
None ... NotImplemented b'' b'ab' bytearray(b'ab') range(0) range(3) range(1,9,2) slice(1,2)
datetime.date(2020,1,2) datetime.datetime(2020,1,2,3) datetime.time(1,2) datetime.timedelta(days=1)
datetime.datetime(2020,1,2,tzinfo=datetime.timezone.utc) UUID(int=5) PurePosixPath('a/b')
int str list tuple dict float
""".split()
OWN = """
Point(1,2) Pair(1) Key(1) Color.RED Level.LOW Mode.A Money(3) Name('ab') Names([1,2]) Thing() Thing Bag([1,2])
Sized([1,2]) Vector(3) object() nested(70) nested(150) table(60) counted([1,2,3]) counted('ab') ends_badly()
itertools.repeat(1,3) map(str,[1,2]) filter(None,[0,1]) zip([1],[2]) iter([1,2]) reversed([1,2])
enumerate('ab') (x for x in (1,2)) {1:2}.keys() {1:2}.values() {1:2}.items() re.match('a','ab') re.compile('a')
len print (lambda x: x) type(None) Exception('x') ValueError SimpleNamespace(a=1) Level property classmethod(len)
1/0 [][0] {}[1] int('x') None.x undefined 'a'+1 array('i',[1,2]) array('d',[1.5]) float.__add__
functools.partial(int,'3') memoryview(b'ab') UserDict({1:2}) UserList([1,2]) UserString('ab') ChainMap({1:2},{3:4})
MappingProxyType({1:2}) defaultdict(list,{1:[2]}) [math.nan] [float('nan')] (math.nan,) {math.nan} {1:math.nan}
""".split("\n")
OWN = [
    text for line in OWN for text in line.replace("(x for x in (1,2))", "(x_for_x_in(1,2))").split()
]
OWN = [text.replace("(x_for_x_in(1,2))", "(x for x in (1,2))") for text in OWN]
OWN += ["(lambda x: x)"]
OWN = [text for text in OWN if text not in ("(lambda", "x:", "x)")]

scalars = st.sampled_from(NUMBERS + TEXTS + OTHERS)
keys = st.sampled_from(NUMBERS[:20] + TEXTS + ["None", "(1,2)", "b'ab'", "frozenset({1})"])
few = st.integers(0, 3)


def joined(items):
    return ",".join(items)


def displays(inner):
    """Containers of what `inner` draws, as source."""
    lists = st.lists(inner, max_size=4)
    pairs = st.lists(st.tuples(keys, inner), max_size=3)
    return st.one_of(
        lists.map(lambda items: f"[{joined(items)}]"),
        lists.map(lambda items: f"({joined(items)}{',' if len(items) == 1 else ''})"),
        lists.map(lambda items: f"deque([{joined(items)}])"),
        st.lists(keys, max_size=4).map(lambda items: f"set([{joined(items)}])"),
        st.lists(keys, max_size=4).map(lambda items: f"frozenset([{joined(items)}])"),
        pairs.map(lambda items: "{" + joined(f"{k}:{v}" for k, v in items) + "}"),
        pairs.map(lambda items: f"OrderedDict([{joined(f'({k},{v})' for k, v in items)}])"),
        st.lists(keys, max_size=5).map(lambda items: f"Counter([{joined(items)}])"),
    )


plain = st.recursive(scalars, displays, max_leaves=6)
"""Values that the asserts can name, too."""
anything = st.one_of(plain, st.sampled_from(OWN), displays(st.sampled_from(OWN) | scalars))
"""All that a function may return."""

FORMS = (
    """
H == X|X == H|H != X|H == X and H == X|H in [X, Y]|H not in (X,)|X in H|Y not in H|not H|H|H is None|H is not None
H is True|None is not H|len(H) == 2|len(H) == len(X)|H[0] == X|H[-1] == Y|H[1:] == X|H[::-1] == X|H[X] == Y
sorted(H) == X|sorted(H) == sorted(X)|sorted(H, reverse=True) == X|sorted(H, key=lambda v: -v) == X|list(H) == X
list(H) == list(X)|set(H) == X|set(H) == set(X)|tuple(H) == X|dict(H) == X|frozenset(H) == set(X)
sum(H) == X|sum(H) == sum(X)|max(H) == X|min(H) == min(X)|any(H)|all(H)|[v for v in H] == X|{v: 1 for v in H} == X
sum(1 for _ in H) == 2|[v for v in H if v] == [v for v in X if v]|f'{H}' == S|f'{H!r}' == S|f'{H:>4}' == S
f'{H:.2f}' == S|'%s' % H == S|'%.2f' % H == S|'%d' % H == S|format(H, '.2f') == S|format(H) == S
'{} {}'.format(H, 1) == S|str(H) == S|str(H) == str(X)|repr(H) == repr(X)|ascii(H) == ascii(X)|type(H) == T
type(H) is T|type(H) in (T, list)|type(H) != T|isinstance(H, T)|isinstance(H, (T, str))|pow(H, 2) == X
H ** 2 == X|H ** 2 == X ** 2|divmod(H, 3) == (0, 1)|divmod(H, 3) == divmod(X, 3)|H << 2 == X << 2|H >> 1 == X
H * 2 == X * 2|2 * H == X|H + X == X + X|H + Y == X|H - X == 0|H % 3 == X % 3|H / 2 == X / 2|H // 2 == X // 2
H & 1 == X|H ^ X == 0|-H == -X|+H == X|~H == ~X|abs(H) == abs(X)|round(H, 1) == round(X, 1)|round(H) == X
int(H) == X|int(H) == int(X)|float(H) == float(X)|bool(H) is True|bool(H) == bool(X)|complex(H) == X
math.isclose(H, X)|math.floor(H) == X|math.sqrt(H) == X|max(*H) == X|[*H] == X|[*H, 1] == [*X, 1]|next(H) == X
next(iter(H)) == X|next(H, 5) == X|X < H|H < X|H <= X < Y|X <= H <= Y|0 <= H < 5|H > X
all(H == X for _ in range(2))|all(f(i) == X for i in (K, K))|[f(i) for i in (K, K)] == [X, X]
any(f(i) == X for i in range(K, K + 1))|H and X|H or X|(H, 1) == (X, 1)|[H] == [X]|{1: H} == {1: X}
X if H else 0|(0 if H == X else 1) == 0|sorted(set(H)) == sorted(set(X))|Counter(H) == Counter(X)
''.join(H) == S|' '.join(map(str, H)) == S|', '.join(str(v) for v in H) == S|bytes(H) == X|bytearray(H) == X
list(enumerate(H)) == X|list(zip(H, X)) == Y|list(map(str, H)) == X|list(reversed(H)) == X|dict(zip(H, H)) == X
H.count(1) == 1|H.upper() == S|H.keys() == X|H.real == X|sorted(H.items()) == X|list(H.values()) == [2]
(y := H) == X|(lambda v: v == X)(H)|H == X == H|H == X, 'message'|set(H).issubset(X)|str(H).strip() == S
len(set(H)) == 1|len(list(H)) == 2|len(str(H)) == 3|hash(H) == hash(X)|chr(H) == S|ord(H) == X|hex(H) == S
divmod(*H) == X|dict(**H) == X|slice(H) == X|range(H) == X|list(range(H)) == X|[0] * H == [0, 0]
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
TYPES = [
    "int",
    "str",
    "float",
    "bool",
    "list",
    "tuple",
    "dict",
    "set",
    "Counter",
    "deque",
    "Fraction",
    "complex",
]


@st.composite
def cases(draw):
    """What a function returns, as source, and an assert about it with `H` for the call."""
    value = draw(plain)
    returned = value if draw(st.booleans()) else draw(anything)
    form = draw(st.sampled_from(FORMS))
    texts = ["'1'", "'a'", "'[1, 2]'", "'1.50'", f"str({value})", f"repr({value})", "'ab'", "''"]
    return (
        returned,
        form,
        value,
        draw(plain),
        draw(st.sampled_from(TYPES)),
        draw(st.sampled_from(texts)),
    )


def source(case, index):
    """The assert of a case about f(index)."""
    _, form, value, other, kind, text = case
    parts = {"H": f"f({index})", "X": value, "Y": other, "T": kind, "S": text, "K": str(index)}
    words = []
    position = 0
    while position < len(form):
        letter = form[position]
        alone = not (
            form[position - 1 : position].isalnum() or form[position + 1 : position + 2].isalnum()
        )
        words.append(parts[letter] if letter in parts and alone else letter)
        position += 1
    return "assert " + "".join(words)


def program_text(cases_):
    """A program whose f(i) returns what case i says."""
    returns = "".join(
        f"    if n == {index}:\n        return {case[0]}\n" for index, case in enumerate(cases_)
    )
    return f"{DEFINITIONS}\ndef f(n):\n{returns}    return n\n"
