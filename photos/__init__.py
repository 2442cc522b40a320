"""Visitors' photos: reading files, archives and addresses; drawing, tables and wording for faces."""
