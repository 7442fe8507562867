"""One training run from options to adapter.

Does not supervise the process: `trainer.endings` does.
Public: `train.train, resume`, `loading.load_model`, `validation`, `calibration`.
"""
