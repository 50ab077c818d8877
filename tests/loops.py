"""Loops inside each other: a bundle has a Scan in a Loop, and no other."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto, helper

TAKEN = (("Loop",), ("Scan",), ("Loop", "Scan"), ("Loop", "If", "Scan"))
REFUSED = (
    ("Loop", "Loop"),
    ("Scan", "Loop"),
    ("Scan", "Scan"),
    ("Loop", "If", "Loop"),
    ("Loop", "Scan", "Loop"),
    ("Loop", "Scan", "Scan"),
    ("Scan", "If", "Scan"),
)
"""The outermost first."""


def loops(kinds: Sequence[str], rounds: str, name: str) -> NodeProto:
    """A node of each kind inside the one before.

    Args:
        rounds: the constant that says how often a Loop turns.
        name: of something to name as the input of all else, and as what each makes.
    """
    made = helper.make_node("Identity", [name], [f"{name}_"])
    for kind in reversed(kinds):
        body = helper.make_graph([made], "body", [], [])
        bodies = {"then_branch": body, "else_branch": body} if kind == "If" else {"body": body}
        scanned = {"num_scan_inputs": 1} if kind == "Scan" else {}
        made = helper.make_node(kind, [rounds if kind == "Loop" else name], [f"{name}_"], **bodies, **scanned)
    return made
