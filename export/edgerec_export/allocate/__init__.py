"""Byte budgets allocated to the dimensions of rows and their bits, by how much errors change scores."""

from edgerec_export.allocate.allocator import Allocation, Allocator, cut, pruned, rotated, turned
from edgerec_export.allocate.importance import ANSWERED, Importance, item_importance, user_importance

__all__ = [
    "ANSWERED",
    "Allocation",
    "Allocator",
    "Importance",
    "cut",
    "item_importance",
    "pruned",
    "rotated",
    "turned",
    "user_importance",
]
