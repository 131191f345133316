"""Runtimes that serve ONNX models, one a file, each an extra; run in a process of their own, for they may crash.

`runtime.py` is what all have in common, `registry.py` knows them by name, `client.py` and `worker.py` are the two ends
of the process. What their numbers are worth is `verification`'s business. Importing this imports none of them.
"""
