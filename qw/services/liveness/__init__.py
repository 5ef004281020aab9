"""The daemon's own lease, and the judgement that another daemon is dead."""
