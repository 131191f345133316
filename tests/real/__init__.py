"""Classifiers that other projects ship, calibrated end to end; `python tools/fetch_models.py` fetches them."""
