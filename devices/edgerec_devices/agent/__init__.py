"""The program that measures on a device in a fresh process. Needs numpy, onnxruntime and edgerec.runtime.

It reads one request, a JSON object, from standard input and writes one answer to standard output.
protocol.schema.json specifies every field of both, for this agent and the others:

    {"task": "bundle", "bundle": FOLDER, "scenarios": ["recommend", "score", "lookup", "history"], "calls": 200,
     "seconds": 1, "k": 20, "exclude": 20, "history": 20, "candidates": [50, 1000], "threads": 1, "seed": 0,
     "ask": [USER, ...], "sustained_seconds": 120}
    {"task": "bare", "threads": 1}

The scenarios "load", "sustained" and "offline" each come in a request of their own. Agents in other languages answer
"bundle" and "bare" with the same fields; a scenario's answer may be {"first_ns": ..., "times_ns": [...]}, the time of
every call, instead of the summary. An agent leaves out figures that it cannot measure.

Answers are in milliseconds and KiB; `tasks.py` describes each figure. An error is one line on standard error.
"""
