"""The commands `train`, `verify`, `demo`, `solve`, `gap` and `reproduce`.

Options and printing alone; one file a command.
Public: `train.train`, `demo.demo`, `solve.solve`, `gap.gap`, `reproduce.reproduce`.
"""
