"""Problems and their data sets, a person's own files and functions, and the prompts that ask them.

Does not sample or grade.
Public: `mbpp.load_problems`, `problem.Problem, ProblemSet`, `prompt.conversation, Protocol, PROTOCOLS`.
"""
