"""The commands `sandbox bench` and `sandbox soak`: speed, and what grows over many programs.

Decides nothing about a program. What measures other parts is in `benchmarks/`.
Public: `bench.measure`, `soak.run`.
"""
