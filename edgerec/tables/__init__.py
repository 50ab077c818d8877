"""Embedding tables: dense, prefix (mixed sizes), coded (integers) and sparse, immutable, with exact sizes in bytes."""

from edgerec.tables.checks import narrowest
from edgerec.tables.coded import CodedTable, RowCodes
from edgerec.tables.dense import DenseTable
from edgerec.tables.prefix import PrefixTable
from edgerec.tables.sparse import SparseTable
from edgerec.tables.store import Table, load_arrays, load_table, save_table

__all__ = [
    "CodedTable",
    "DenseTable",
    "PrefixTable",
    "RowCodes",
    "SparseTable",
    "Table",
    "load_arrays",
    "load_table",
    "narrowest",
    "save_table",
]
