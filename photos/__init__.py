"""Photos of strangers: reading files, archives and addresses; drawing, tables and words for faces."""
