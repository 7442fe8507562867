"""`train --options`: ours first, by subject; each option once; nothing wider than the terminal."""

import dataclasses
import re

from trl import GRPOConfig, ModelConfig

from trainer.options.config import BenchConfig
from trainer.options.listing import option_list, subjects


def test_the_list_begins_with_ours_by_subject_and_holds_every_option_once():
    text = option_list(80)
    assert text.startswith("sdpo-bench, ")
    headings = re.findall(r"^(\S.*):$", text, re.M)
    assert len(headings) == len(subjects()) + 3
    assert [h.startswith("sdpo-bench, ") for h in headings] == [True] * len(subjects()) + [
        False
    ] * 3
    options = re.findall(r"^  --(\w+)", text, re.M)
    classes = (BenchConfig, GRPOConfig, ModelConfig)
    assert sorted(options) == sorted({f.name for c in classes for f in dataclasses.fields(c)})
    assert options[: len(dataclasses.fields(BenchConfig))] == [
        f.name for f in dataclasses.fields(BenchConfig)
    ]
    assert "[default: full/train]" in text


def test_no_line_of_ours_is_wider_than_the_terminal():
    for width in (60, 80, 120):
        text = option_list(width)
        ours = text[: text.index("the model and its adapter")]
        assert max(map(len, ours.splitlines())) <= width
