"""The daemon: builds the services from the settings, runs their loops, drains. `qw.daemon.daemon.Daemon` is the whole.

Nothing is imported here: commands use `qw.daemon.database` without waiting for the rest.
"""
