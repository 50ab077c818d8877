"""From tables to a bundle: ONNX graphs over one tables file, with a guaranteed size."""

from edgerec.extras import require

require("onnx", "export")

from edgerec_export.choose import ExportStep  # noqa: E402
from edgerec_export.export import Export, check_place, export, export_request  # noqa: E402
from edgerec_export.neighbours import from_neighbours  # noqa: E402
from edgerec_export.patch import Patch, diff, patch_output  # noqa: E402
from edgerec_export.request import ExportRequest  # noqa: E402
from edgerec_export.source import Source, from_arrays, from_embedding, from_implicit, from_run  # noqa: E402

__all__ = [
    "Export",
    "ExportRequest",
    "ExportStep",
    "Patch",
    "Source",
    "check_place",
    "diff",
    "export",
    "export_request",
    "from_arrays",
    "from_embedding",
    "from_implicit",
    "from_neighbours",
    "from_run",
    "patch_output",
]
