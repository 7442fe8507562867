"""This project's grading inside other people's trainers and evaluations.

One file for each: `trl`, `verl`, `inspect_ai`, `verifiers`. `rows` turns a row of theirs into a problem and grades.
Nothing here is imported by the rest of the project; docs/integrations.md shows each in ten lines.
"""
