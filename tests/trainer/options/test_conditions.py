"""What may differ between two methods is named in analysis, of options that the trainer has."""

from dataclasses import fields

from trl import GRPOConfig

from analysis.statistics.conditions import METHOD_SETTINGS, WITHOUT_EFFECT
from trainer.options.config import BenchConfig

OF_EVERY_METHOD = frozenset(
    "max_problems visible_tests format_weight timeout_s mismatch_clip use_unsloth".split()
)
"""Options of ours that no algorithm brings and that move its figures: a difference in them is named."""


def test_what_an_algorithm_brings_are_options_that_exist():
    known = {each.name for kind in (BenchConfig, GRPOConfig) for each in fields(kind)}
    assert METHOD_SETTINGS <= known


def test_each_option_of_ours_is_the_methods_without_effect_or_named_where_it_differs():
    ours = {each.name for each in fields(BenchConfig)}
    assert ours == ours & (METHOD_SETTINGS | WITHOUT_EFFECT | OF_EVERY_METHOD)
    assert not METHOD_SETTINGS & WITHOUT_EFFECT
