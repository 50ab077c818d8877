"""A phone's parts on this machine: Android's real debug daemon, and onnxruntime's own library for Android."""
