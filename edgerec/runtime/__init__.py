"""What runs on the device: opens a bundle and answers. Needs numpy and onnxruntime, nothing else."""

from edgerec.runtime.bundle import Metadata, metadata
from edgerec.runtime.recommender import Recommendation, Recommender
from edgerec.runtime.session import Session

__all__ = ["Metadata", "Recommendation", "Recommender", "Session", "metadata"]
