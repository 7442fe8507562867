"""What holds for any loaded model: adapters, 4 bits, evaluation mode, padding, shared prompts.

Does not draw tokens. The one importer of `unsloth`.
Public: `lora.check_adapter, ModelError`, `modes.evaluation_mode`, `padding.check_padding`, `shared_prompt`.
"""
