import json

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.journal.lines import Damage, Line, encode, scan
from tests.scale import examples

ROWS = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20)), min_size=1, max_size=6)


def _write(folder, rows):
    path = folder / "segment.jsonl"
    lines = [encode("metrics", json.dumps(row).encode()) for row in rows]
    path.write_bytes(b"".join(lines))
    return path, lines


def _lines(items):
    return [json.loads(item.row) for item in items if isinstance(item, Line)]


@settings(deadline=None, max_examples=examples(40))
@given(rows=ROWS)
def test_what_is_encoded_is_scanned(tmp_path_factory, rows):
    path, lines = _write(tmp_path_factory.mktemp("s"), rows)
    items = list(scan(path))
    assert _lines(items) == rows
    assert [item.end - item.offset for item in items] == [len(line) for line in lines]


@settings(deadline=None, max_examples=examples(40))
@given(rows=ROWS)
def test_a_line_is_plain_json(tmp_path_factory, rows):
    path, _ = _write(tmp_path_factory.mktemp("s"), rows)
    parsed = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["table"], line["row"]) for line in parsed] == [("metrics", row) for row in rows]


@settings(deadline=None, max_examples=examples(40))
@given(rows=ROWS, data=st.data())
def test_a_file_cut_anywhere_keeps_every_complete_line_and_nothing_else(
    tmp_path_factory, rows, data
):
    path, lines = _write(tmp_path_factory.mktemp("s"), rows)
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    n_complete = content[:cut].count(b"\n")
    items = list(scan(path))
    assert _lines(items) == rows[:n_complete]
    assert not [item for item in items if isinstance(item, Damage)]


@settings(deadline=None, max_examples=examples(40))
@given(rows=ROWS, data=st.data())
def test_a_flipped_bit_never_yields_a_row_that_was_not_written(tmp_path_factory, rows, data):
    path, _ = _write(tmp_path_factory.mktemp("s"), rows)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    items = list(scan(path))
    intact = _lines(items)
    assert len(intact) < len(rows)
    remaining = iter(rows)
    assert all(row in remaining for row in intact)
    last_line_break = len(content) - 1
    if place != last_line_break:
        damage = next(item for item in items if isinstance(item, Damage))
        assert damage.path == path
        assert damage.offset <= place


def test_a_scan_from_the_end_of_a_line_sees_only_what_came_after(tmp_path):
    path, _ = _write(tmp_path, [{"a": "1"}, {"a": "2"}, {"a": "3"}])
    first = next(iter(scan(path)))
    assert _lines(scan(path, first.end)) == [{"a": "2"}, {"a": "3"}]
