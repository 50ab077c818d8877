"""Interactions: reading, named data sets, filters, splits, streams and ranking metrics."""

from edgerec.data.attributes import read_titles
from edgerec.data.catalogue import NamedSet, named_sets
from edgerec.data.interactions import Interactions
from edgerec.data.metrics import (
    KS,
    MARGIN,
    Sample,
    evaluate_vectors,
    metrics_of_rankings,
    metrics_of_users,
    metrics_per_user,
    popularity_of,
    tested_rows,
)
from edgerec.data.named import load_data
from edgerec.data.ranking import ScorePairs, top_k, top_k_of_vectors
from edgerec.data.readers import read
from edgerec.data.split import Split, SplitSpec, merge, split
from edgerec.data.stream import Segment, Stream, StreamSpec, stream
from edgerec.data.synthetic import synthetic

__all__ = [
    "KS",
    "MARGIN",
    "Interactions",
    "NamedSet",
    "Sample",
    "ScorePairs",
    "Segment",
    "Split",
    "SplitSpec",
    "Stream",
    "StreamSpec",
    "evaluate_vectors",
    "load_data",
    "merge",
    "metrics_of_rankings",
    "metrics_of_users",
    "metrics_per_user",
    "named_sets",
    "popularity_of",
    "read",
    "read_titles",
    "split",
    "stream",
    "synthetic",
    "tested_rows",
    "top_k",
    "top_k_of_vectors",
]
