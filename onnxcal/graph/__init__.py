"""ONNX files: looking into them, finding their heads, patching them, and taking the patch out again."""
