"""Turns graded groups of completions into weight updates; nothing imports it."""
