"""Runtimes: what lists them, the process they run in, and each against a reference of its own."""
