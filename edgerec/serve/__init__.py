"""Serving bundles as Web Things: `edgerec serve`, and `python -m edgerec.serve` of edgerec-runtime."""

from edgerec.serve.server import serve
from edgerec.serve.settings import Settings

__all__ = ["Settings", "serve"]
