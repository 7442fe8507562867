"""What the teacher reads, and with which weights.

Prompts are decided on strings, before any tensor exists. Holds no loss.
Public: `prompt.teacher_prompts, TeacherRules, TeacherPrompt`, `weights.make_teacher`, `shown.ask`.
"""
