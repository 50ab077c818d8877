"""Browsers and Node.js as devices: onnxruntime-web, the agent that runs there, and the demo page."""
