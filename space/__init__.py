"""The page: tabs, endpoints, and what happens to photos."""
