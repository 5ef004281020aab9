"""``qw top``: a full-screen view, refreshed every second. It alone imports Textual."""
