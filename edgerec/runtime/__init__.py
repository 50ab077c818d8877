"""What runs on the device: opens a bundle and answers. Needs numpy and onnxruntime, nothing else."""

from edgerec.runtime.recommender import Recommendation, Recommender

__all__ = ["Recommendation", "Recommender"]
