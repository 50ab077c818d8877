"""What runs on the device, in a fresh process: standard library, numpy, onnxruntime and edgerec.runtime only; the last
two tasks also need the libraries of the extra 'peers'.

It reads one request, a JSON object, from standard input and writes one answer to standard output:

    {"task": "bundle", "bundle": FOLDER, "calls": 200, "seconds": 1, "k": 20, "exclude": 20, "history": 20,
     "candidates": [1, 50, 1000], "threads": 1, "seed": 0, "ask": [USER, ...]}
    {"task": "plain", "model": FILE.onnx, "users": 1000, "prepack": true, "calls": ..., "seconds": ..., "threads": 1,
     "seed": 0, "ask": [ROW, ...]}
    {"task": "bare", "threads": 1}
    {"task": "graphs", "bundle": FOLDER, "graphs": ["recommend", "score", "similar"], "calls": 5, "k": 20,
     "exclude": 20, "history": 20, "threads": 1, "seed": 0}
    {"task": "profile", "bundle": FOLDER, "calls": 20, "k": 20, "exclude": 20, "history": 20, "threads": 1, "seed": 0}
    {"task": "index", "peer": NAME, "items": FILE.npy, "index": FILE}
    {"task": "peer", "peer": NAME, "index": FILE, "users": FILE.npy, "k": 20, "calls": ..., "seconds": ...,
     "threads": 1, "seed": 0, "ask": [ROW, ...]}

Answers hold milliseconds and KiB; `tasks.py` says what each figure means. An error is one line on standard error.
"""
