"""The evaluation loop, and the check that comes before it.

Does not say where answers come from: it takes them one by one.
Public: `evaluate.evaluate, record`, `self_check.check_harness`, `label.findable`.
"""
