"""The daemon's services. A service has a name and a bounded ``step()``; it contains no loop and no sleep."""
