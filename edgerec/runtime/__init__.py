"""The runtime of a device, which opens bundles and answers requests; it needs numpy and onnxruntime only."""

from edgerec.runtime.bundle import Metadata, metadata
from edgerec.runtime.recommender import Recommendation, Recommender
from edgerec.runtime.session import Session

__all__ = ["Metadata", "Recommendation", "Recommender", "Session", "metadata"]
