"""Derives every stage of an SDPO run a second time and compares.

`second_loss` shares nothing with `trainer.losses`.
Public: `trainer.AuditedTrainer`, `checks.Auditor`, `layers.Layer`, `second_loss.oracle`, `golden.check_losses`.
"""
