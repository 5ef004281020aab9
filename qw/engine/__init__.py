"""Advances runs and fires schedules, inside transactions of the store. Used by `client` and `services`."""
