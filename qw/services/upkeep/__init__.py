"""Periodic work that any daemon may do: promotion, admission, schedules, runs, measures, retention."""
