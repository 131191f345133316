"""The parts of `tools/runtime_matrix.py`: its graphs, their runs, and the pages that show what came out."""
