"""One module per command of ``qw``; each has an ``app``. `qw.cli.command` lists them."""
