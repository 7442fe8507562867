"""The demo: a tiny policy of our own, its problems, three methods compared.

Nothing outside of the commands imports it.
Public: `demo.run_demo`, `policy.warm_start, Recipe`, `runs.Ledger`.
"""
