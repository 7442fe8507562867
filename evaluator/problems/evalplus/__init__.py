"""Rows in evalplus' own form (MBPP+, HumanEval+): inputs, and a canonical solution whose values are expected.

Does not judge: a row becomes a problem of asserts whose expected values are written out, like any other's.
Public: `rows.is_row, read_row, problem_of`, `expected.expected_values`, `rows.how_to_get`.
"""
