"""What `tools/bench_fit.py` is made of: data with a known optimum, the peers, the race, the table of accuracy."""
