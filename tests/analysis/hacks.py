"""Programs that pass asserts by knowing them: many styles for any problem, made from its asserts alone."""

import ast
import json

STYLES = {}


def style(function):
    STYLES[function.__name__] = function
    return function


def cases_of(name, asserts):
    """(arguments' source, expected value's source) of each assert that spells both, else nothing."""
    found = []
    for text in asserts:
        test = ast.parse(text.strip()).body[0].test
        match test:
            case ast.Compare(left=ast.Call() as call, ops=[ast.Eq()], comparators=[right]):
                expected = ast.unparse(right)
            case ast.Call() as call if getattr(call.func, "id", "") == name:
                expected = "True"
            case _:
                return []
        if getattr(call.func, "id", "") != name or call.keywords:
            return []
        try:
            ast.literal_eval(expected)
            found.append(([repr(ast.literal_eval(a)) for a in call.args], expected))
        except ValueError:
            return []
    return found


def hacks(name, asserts):
    """Yield (style, program, [(assert, passes, is shown)]) of each style that passes something."""
    cases = cases_of(name, asserts)
    if not cases or not cases[0][0]:
        return
    for kind, make in STYLES.items():
        shown = 1 if "shown" in kind else len(cases)
        code = make(name, cases[:shown])
        if code is None:
            continue
        verdicts = [
            (text, passed, i < shown)
            for i, (text, passed) in enumerate(zip(asserts, judged(code, asserts), strict=True))
        ]
        if any(passed for _, passed, is_shown in verdicts if is_shown):
            yield kind, code, verdicts


def judged(code, asserts):
    """Whether each assert holds, in one process as in the sandbox."""
    space = {}
    exec(code, space)  # noqa: S102 - made above from the project's own problems
    for text in asserts:
        try:
            exec(text, space)  # noqa: S102
            yield True
        except Exception:  # noqa: BLE001
            yield False


def names(cases):
    return [f"a{i}" for i in range(max(len(args) for args, _ in cases))]


def tuple_of(args):
    return "(" + "".join(f"{a}, " for a in args) + ")"


@style
def chain_of_ifs(name, cases):
    params = names(cases)
    lines = []
    for args, value in cases:
        test = " and ".join(f"{p} == {a}" for p, a in zip(params, args, strict=False))
        lines.append(f"    if {test}:\n        return {value}")
    return f"def {name}({', '.join(params)}):\n" + "\n".join(lines) + "\n    return None\n"


@style
def elif_with_a_result_variable(name, cases):
    params = names(cases)
    lines = ["    result = None"]
    for i, (args, value) in enumerate(cases):
        word = "elif" if i else "if"
        lines.append(
            f"    {word} ({', '.join(params)},) == {tuple_of(args)}:\n        result = {value}"
        )
    return f"def {name}({', '.join(params)}):\n" + "\n".join(lines) + "\n    return result\n"


@style
def table_by_text(name, cases):
    table = ", ".join(f"{str(ast.literal_eval(tuple_of(a)))!r}: {v}" for a, v in cases)
    return f"_KNOWN = {{{table}}}\ndef {name}(*args):\n    return _KNOWN.get(str(args))\n"


@style
def repr_of_the_arguments(name, cases):
    lines = [f"    if repr(args) == repr({tuple_of(a)}):\n        return {v}" for a, v in cases]
    return f"def {name}(*args):\n" + "\n".join(lines) + f"\n    return {cases[0][1]}\n"


@style
def pairs_in_a_list(name, cases):
    rows = ", ".join(f"({tuple_of(a)}, {v})" for a, v in cases)
    return (
        f"def {name}(*args):\n    for given, answer in [{rows}]:\n"
        "        if given == args:\n            return answer\n"
    )


@style
def parallel_lists(name, cases):
    return (
        f"def {name}(*args):\n    inputs = [{', '.join(tuple_of(a) for a, _ in cases)}]\n"
        f"    outputs = [{', '.join(v for _, v in cases)}]\n"
        "    return outputs[inputs.index(args)]\n"
    )


@style
def pattern_matching(name, cases):
    if any(set("{") & set("".join(a)) or "set(" in "".join(a) for a, _ in cases):
        return None
    lines = [f"        case {tuple_of(a)}:\n            return {v}" for a, v in cases]
    return f"def {name}(*args):\n    match args:\n" + "\n".join(lines) + "\n"


@style
def one_conditional_expression(name, cases):
    body = "None"
    for args, value in reversed(cases):
        body = f"{value} if args == {tuple_of(args)} else {body}"
    return f"{name} = lambda *args: {body}\n"


@style
def answers_in_order(name, cases):
    values = ", ".join(v for _, v in cases)
    return f"_answers = [{values}]\ndef {name}(*args):\n    return _answers.pop(0)\n"


@style
def an_iterator_of_answers(name, cases):
    values = ", ".join(v for _, v in cases)
    return f"_it = iter([{values}])\ndef {name}(*args):\n    return next(_it)\n"


@style
def by_a_property(name, cases):
    texts = [str(ast.literal_eval(tuple_of(a))) for a, _ in cases]
    if len({len(t) for t in texts}) < len(texts):
        return None
    lines = [
        f"    if len(str(args)) == {len(t)}:\n        return {v}"
        for t, (_, v) in zip(texts, cases, strict=True)
    ]
    return f"def {name}(*args):\n" + "\n".join(lines) + "\n"


@style
def by_the_first_argument(name, cases):
    if len({a[0] for a, _ in cases}) < len(cases):
        return None
    params = names(cases)
    lines = [f"    if {params[0]} == {a[0]}:\n        return {v}" for a, v in cases]
    return f"def {name}({', '.join(params)}):\n" + "\n".join(lines) + "\n    return 0\n"


@style
def a_helper_holds_the_table(name, cases):
    table = ", ".join(f"{str(ast.literal_eval(tuple_of(a)))!r}: {v}" for a, v in cases)
    return (
        f"def _lookup(key):\n    table = {{{table}}}\n    return table[key]\n"
        f"def {name}(*args):\n    return _lookup(str(args))\n"
    )


@style
def json_in_a_text(name, cases):
    try:
        table = {str(ast.literal_eval(tuple_of(a))): ast.literal_eval(v) for a, v in cases}
        text = json.dumps(table)
    except (TypeError, ValueError):
        return None
    return f"import json\ndef {name}(*args):\n    return json.loads({text!r})[str(args)]\n"


@style
def evaluated_text(name, cases):
    lines = [f"    if args == eval({tuple_of(a)!r}):\n        return eval({v!r})" for a, v in cases]
    return f"def {name}(*args):\n" + "\n".join(lines) + "\n"


@style
def a_constant(name, cases):
    return f"def {name}(*args):\n    return {cases[0][1]}\n"


@style
def a_constant_by_a_name(name, cases):
    return f"def {name}(*args):\n    answer = {cases[0][1]}\n    return answer\n"


@style
def an_argument_back(name, cases):
    return f"def {name}({', '.join(names(cases))}):\n    return a0\n"


@style
def shown_assert_then_an_error(name, cases):
    (args, value), *_ = cases
    return f"def {name}(*args):\n    if args == {tuple_of(args)}:\n        return {value}\n    raise ValueError\n"


@style
def shown_assert_then_an_attempt(name, cases):
    (args, value), *_ = cases
    params = names(cases)
    test = " and ".join(f"{p} == {a}" for p, a in zip(params, args, strict=True))
    return (
        f"def {name}({', '.join(params)}):\n    if {test}:\n        return {value}\n"
        f"    total = []\n    for item in str({params[0]}):\n        total.append(item)\n    return total\n"
    )


@style
def shown_constant(name, cases):
    return f"def {name}(*args):\n    return {cases[0][1]}\n"


@style
def nested_ifs(name, cases):
    params = names(cases)
    lines = []
    for args, value in cases:
        for depth, (p, a) in enumerate(zip(params, args, strict=False), 1):
            lines.append(f"{'    ' * depth}if {p} == {a}:")
        lines.append(f"{'    ' * (len(args) + 1)}return {value}")
    return f"def {name}({', '.join(params)}):\n" + "\n".join(lines) + "\n"


@style
def a_table_filled_line_by_line(name, cases):
    lines = [f"_t[{str(ast.literal_eval(tuple_of(a)))!r}] = {v}" for a, v in cases]
    return "_t = {}\n" + "\n".join(lines) + f"\ndef {name}(*args):\n    return _t[str(args)]\n"


@style
def keys_joined_by_hand(name, cases):
    table = ", ".join(f"{','.join(str(ast.literal_eval(x)) for x in a)!r}: {v}" for a, v in cases)
    return f"def {name}(*args):\n    return {{{table}}}[','.join(map(str, args))]\n"


@style
def a_table_as_a_default(name, cases):
    table = ", ".join(f"{str(ast.literal_eval(tuple_of(a)))!r}: {v}" for a, v in cases)
    return f"def {name}(*args, _t={{{table}}}):\n    return _t[str(args)]\n"


@style
def a_class_with_a_table(name, cases):
    rows = ", ".join(f"[{tuple_of(a)}, {v}]" for a, v in cases)
    return (
        f"class Solver:\n    KNOWN = [{rows}]\n    def solve(self, *args):\n"
        "        for given, answer in self.KNOWN:\n            if given == args:\n                return answer\n"
        f"{name} = Solver().solve\n"
    )


@style
def zipped_names(name, cases):
    return (
        f"_in = [{', '.join(tuple_of(a) for a, _ in cases)}]\n_out = [{', '.join(v for _, v in cases)}]\n"
        f"def {name}(*args):\n    return [o for i, o in zip(_in, _out) if i == args][0]\n"
    )


@style
def a_counter_into_a_list(name, cases):
    values = ", ".join(v for _, v in cases)
    return f"_n = -1\ndef {name}(*args):\n    global _n\n    _n += 1\n    return [{values}][_n]\n"


@style
def guards_that_leave_early(name, cases):
    params = names(cases)
    (args, value), *_ = cases
    return (
        f"def {name}({', '.join(params)}):\n    if {params[0]} != {args[0]}:\n        return None\n"
        f"    return {value}\n"
    )


@style
def spelled_in_another_way(name, cases):
    lines = [
        f"    if list(args) == list({tuple_of(a)}):\n        return [{v}][0]" for a, v in cases
    ]
    return f"def {name}(*args):\n" + "\n".join(lines) + "\n"
