"""Everything that enters the sandbox image: standard library only, imports nothing of ours outside it."""
