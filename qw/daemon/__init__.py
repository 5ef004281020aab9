"""The daemon: builds the services from the settings, runs their loops, drains. See `qw.daemon.daemon.Daemon`.

This file imports nothing, so that commands can use `qw.daemon.database` without loading the rest.
"""
