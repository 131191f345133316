"""Builds: several models declared once, in a TOML file, and made only where something changed."""
