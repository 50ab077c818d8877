"""A plain model rounded as most people round one: by onnxruntime's own tools, with their defaults."""

from __future__ import annotations

import logging
from pathlib import Path

from edgerec.extras import require

EXTRA = "peers"
BLOCK = 32
"""Values a scale of int4: the default of 128 is more than a row of 64 has."""
TOOLS = {"int8": "quantize_dynamic", "int4": f"MatMulNBitsQuantizer, block_size {BLOCK}"}
"""Of onnxruntime, by precision."""


def rounded(plain: Path, precision: str, path: Path) -> int:
    """Write `plain`, an fp32 ONNX file, with its tables in int8 or int4; its bytes.

    int8 is `quantize_dynamic`: both tables in 8 bits with one scale each, the query rounded at each call
    (MatMulInteger). int4 is `MatMulNBitsQuantizer`: the items in 4 bits with a scale for every BLOCK values, the
    operator MatMulNBits of onnxruntime's own domain.

    Raises MissingExtraError where a package of theirs is absent.
    """
    for package in ("onnx", "onnx_ir"):
        require(package, EXTRA)
    said = logging.root.level
    logging.root.setLevel(logging.ERROR)  # both advise on the root logger
    try:
        if precision == "int8":
            require("onnxruntime.quantization", EXTRA).quantize_dynamic(str(plain), str(path))
        else:
            tool = require("onnxruntime.quantization.matmul_nbits_quantizer", EXTRA)
            quantizer = tool.MatMulNBitsQuantizer(str(plain), block_size=BLOCK)
            quantizer.process()
            quantizer.model.save_model_to_file(str(path))
    finally:
        logging.root.setLevel(said)
    return path.stat().st_size
