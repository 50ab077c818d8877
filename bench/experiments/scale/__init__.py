"""Benchmarks on a large synthetic catalogue: bundles, the plain dense ONNX export, and other libraries."""
