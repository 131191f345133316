"""What people and scripts read: terminal text and JSON, made from the result dataclasses. Nothing is computed here."""
