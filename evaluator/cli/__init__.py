"""The commands `eval`, `compare`, `show`, `problems` and `doctor`, and what commands share.

Options and printing alone; the work is done in the other folders.
Public: `eval.eval_command`, `terminal.print_table, one_line_errors`, `command_options`.
"""
