"""From the text of a completion to the program in it.

Knows no data set and runs nothing.
Public: `extract.extract, Extraction`, `answer_text.answer_text`, `definition.parse`.
"""
