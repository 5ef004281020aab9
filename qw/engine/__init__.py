"""What advances runs and fires schedules, in transactions of the store; `client` and `services` stand on it."""
