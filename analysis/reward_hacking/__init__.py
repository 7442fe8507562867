"""reward_hacking."""
