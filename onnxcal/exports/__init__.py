"""`export`: a calibrated model in the format of another runtime, made by that one's own converter, run and verified."""
