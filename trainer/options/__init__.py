"""What a run is asked to do: one dataclass of ours beside TRL's, and what is refused.

Loads no model.
Public: `config.parse_options, Options, BenchConfig, ConfigError`, `checks`, `checks.check_settings`.
"""
