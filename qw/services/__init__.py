"""What the daemon is made of. A service has a name and a bounded ``step()``; it holds no loop and no sleep."""
