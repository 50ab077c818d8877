"""The program that measures on a device, in a fresh process: standard library, numpy, onnxruntime and edgerec.runtime.

It reads one request, a JSON object, from standard input and writes one answer to standard output. protocol.schema.json
has every field of both, for this agent and the others:

    {"task": "bundle", "bundle": FOLDER, "scenarios": ["recommend", "score", "lookup", "history"], "calls": 200,
     "seconds": 1, "k": 20, "exclude": 20, "history": 20, "candidates": [50, 1000], "threads": 1, "seed": 0,
     "ask": [USER, ...], "sustained_seconds": 120}
    {"task": "plain", "model": FILE.onnx, "users": 1000, "prepack": true, "calls": ..., "seconds": ..., "threads": 1,
     "seed": 0, "ask": [ROW, ...]}
    {"task": "bare", "threads": 1}
    {"task": "graphs", "bundle": FOLDER, "graphs": ["recommend", "score", "similar"], "calls": 5, "k": 20,
     "exclude": 20, "history": 20, "threads": 1, "seed": 0}
    {"task": "profile", "bundle": FOLDER, "calls": 20, "k": 20, "exclude": 20, "history": 20, "threads": 1, "seed": 0}

More scenarios are "load", "sustained" and "offline", each in a request of its own. Agents that are not Python answer
"bundle" and "bare" with the same fields; of a scenario they may answer {"first_ns": ..., "times_ns": [...]}, every
call's time, in place of the summary. What one cannot tell it leaves out.

Answers hold milliseconds and KiB; `tasks.py` says what each figure means. An error is one line on standard error.
"""
