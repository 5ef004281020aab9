"""``qw top``: a full-screen view, refreshed every second. Only this package imports Textual."""
