"""Drafts of bundles, whose bytes are known before values are packed, so that a budget is met or refused at once."""

from edgerec_export.draft.draft import Draft
from edgerec_export.draft.requests import BundleRequest
from edgerec_export.draft.within import draft_within, too_large

__all__ = ["BundleRequest", "Draft", "draft_within", "too_large"]
