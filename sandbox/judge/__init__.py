"""From the values that a program returned to one verdict an assert.

Does not start programs. Nothing here believes what comes from inside.
Public: `asserts.parse, Assertion`, `decode.decode`, `opaque.Opaque`, `verdict.judge`.
"""
