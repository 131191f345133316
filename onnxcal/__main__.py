"""`python -m onnxcal`."""

from onnxcal.cli import main

if __name__ == "__main__":
    main()
