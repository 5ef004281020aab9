"""Options and arguments: how what people type becomes values."""
