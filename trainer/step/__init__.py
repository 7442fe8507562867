"""One optimizer step: TRL's trainer with our hooks, the forward passes, micro-batches, callbacks.

Holds no mathematics of a loss. The one importer of TRL's trainer.
Public: `rollout_trainer.RolloutTrainer`, `loss_trainer.BenchTrainer`, `forward.completion_hidden`, `callbacks`.
"""
