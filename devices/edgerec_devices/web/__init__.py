"""Browsers and Node: onnxruntime-web, the agent that runs there, and the demo page."""
