"""Verification in other runtimes."""
