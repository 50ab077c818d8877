"""Results on disk: one JSON object, or a list of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgerec.errors import BenchError
from edgerec.files import storage_failure, write_json
from edgerec.json_records import parse_json
from edgerec_bench.result import result
from edgerec_bench.result import scale as scale_result
from edgerec_bench.result.result import Result
from edgerec_bench.result.scale import ScaleResult

AnyResult = Result | ScaleResult

_KINDS: dict[str, tuple[int, type[Result] | type[ScaleResult]]] = {
    result.FORMAT: (result.VERSION, Result),
    scale_result.FORMAT: (scale_result.VERSION, ScaleResult),
}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of results of 'edgerec bench', in the current version."""
    read: dict[str, Any] = json.loads(files("edgerec_bench").joinpath("schema", "result.schema.json").read_bytes())
    return read


def write_results(path: Path, results: Sequence[AnyResult]) -> None:
    """Write one result as a JSON object, several as a list. Raises StorageError."""
    listed = [one.to_json() for one in results]
    write_json(path, listed[0] if len(listed) == 1 else listed)


def read_results(path: Path) -> list[AnyResult]:
    """Read every result in a file, in order.

    Raises:
        BenchError: the file holds no result, a damaged one, or one of a newer version; the message names the file.
        StorageError: the file system refuses.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BenchError(f"{path} does not exist; make it with 'edgerec bench BUNDLE --out {path}'") from None
    except IsADirectoryError:
        raise BenchError(f"{path} is a folder; give a file that 'edgerec bench {path} --out FILE' wrote") from None
    except (OSError, ValueError) as error:
        storage_failure(path, error, "read")
    try:
        value = parse_json(content)
    except ValueError as error:
        raise BenchError(f"{path} is damaged ({error}); measure again") from error
    entries = value if isinstance(value, list) else [value]
    if not entries:
        raise BenchError(f"{path} holds no result; measure again")
    return [_parse(path, entry) for entry in entries]


def _parse(path: Path, fields: Any) -> AnyResult:
    known = _KINDS.get(str(fields.get("format"))) if isinstance(fields, dict) else None
    if known is None:
        raise BenchError(f"{path} is no result of 'edgerec bench'; give the file that its --out wrote")
    newest, kind = known
    version = fields.get("version")
    if isinstance(version, int) and version > newest:
        raise BenchError(
            f"{path} has version {version}, this edgerec reads up to {newest}; upgrade: pip install -U edgerec"
        )
    try:
        return kind.from_json(fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchError(f"{path} is damaged ({error!r}); measure again") from error
