"""The export of a bundle, which is chosen, written, verified, and installed as a whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from edgerec.errors import BudgetError, BundleError, ExportError, RangeError, UnsupportedError
from edgerec.files import (
    atomic_write,
    locked,
    new_part_folder,
    remove_leftovers,
    sha256,
    storage_failure,
    sync,
    sync_folder,
)
from edgerec.json_records import parse_json
from edgerec.outputs import Output, always, check_outputs, json_of
from edgerec.runtime.manifest import FILE_NAME, FORMAT, MAJOR, OURS, read_manifest
from edgerec.runtime.stored import SUFFIX, one_file_output, write_packed
from edgerec.signatures import Signer, read_signer
from edgerec_export.choose import Chosen, ExportStep, OnStep, choose
from edgerec_export.draft import Draft, too_large
from edgerec_export.follow import obstacle
from edgerec_export.pack import Packed, pack
from edgerec_export.patch import PreviousAttributes
from edgerec_export.reference import Reference
from edgerec_export.request import ExportRequest
from edgerec_export.source import Source
from edgerec_export.verify import Verification, one_subject, peak_of_one
from edgerec_export.verify import verify as verify_bundle

Result = TypeVar("Result")
ONE_FILE = "bundle.part"
MOST_ATTEMPTS = 8
"""Attempts to write a bundle in one file, each with the bytes less that the one before took too many."""


@dataclass(frozen=True)
class Export:
    """A bundle that was written.

    Attributes:
        folder: folder of the bundle, or its one file.
        nbytes: bytes of all files, or of the one file.
        parts: bytes of each part: sections of the tables file by name, each graph, the manifest, the model card; of
            one file, these last as 'head'.
        verification: result of the comparison with numpy; None with `verify=False`.
        chosen: the comparison of layouts and precisions.
        peak_bytes: peak memory of one request above a bare session, in a fresh process; None without `max_rss`.
        rounded_to_zero: number of rows, by side ("item" and "user"), with values that are stored as zeros, since all
            are below a step of the codes or the smallest float; sides without such rows are left out.
        similar_left_out: True if the graph of similar items was left out to meet a limit.
        obstacle: why no small patch can follow the bundle, with the cure; '' if small patches can follow it.
    """

    folder: Path
    nbytes: int
    parts: dict[str, int]
    verification: Verification | None
    chosen: Chosen
    peak_bytes: int | None = None
    rounded_to_zero: dict[str, int] = field(default_factory=dict)
    similar_left_out: bool = False
    obstacle: str = ""

    @property
    def item_ids(self) -> NDArray[Any]:
        """(n_items,) raw id of each item row."""
        return self.chosen.draft.raw_ids()["item"]

    @property
    def user_ids(self) -> NDArray[Any] | None:
        """(n_users,) raw id of each user row; None without users."""
        return self.chosen.draft.raw_ids().get("user")


def export(
    source: Source,
    out: str | Path,
    *,
    layout: str = "auto",
    precision: str = "fp32",
    max_bytes: int | None = None,
    fit: bool = False,
    max_rss: int | None = None,
    max_ms: float | None = None,
    users: bool = True,
    titles: bool = False,
    ids: str = "raw",
    id_map: str | Path | None = None,
    similar: bool | None = None,
    lookup: bool = False,
    scales: str = "auto",
    user_scales: str | None = None,
    rotate: bool = True,
    version: str = "2.0",
    rollback_index: int | None = None,
    like: str | Path | None = None,
    calibration: str | Path | None = None,
    sign: str | Path | None = None,
    verify: bool = True,
    overwrite: bool = False,
    progress: OnStep | None = None,
) -> Export:
    """Write tables as a bundle: ONNX graphs over one tables file, replacing a bundle in the same folder.

    Example:
        >>> bundle = export(from_run(run), "films.bundle", precision="int8", max_bytes=65536)
        >>> export(from_run(next_run), "new.bundle", like=bundle.folder)

    Args:
        source: the tables, from `from_run`, `from_arrays`, `from_neighbours`, `from_implicit` or `from_embedding`.
        out: folder of the bundle; or, with the suffix .edgerec, one file, whose bytes `max_bytes` limits then.
        layout: one of `edgerec_export.layouts.LAYOUTS`; 'auto' takes the layout with the lowest expected latency, among
            those that fit the limits or, without limits, among those at most 25 % larger than the smallest.
        precision: 'fp32', 'fp16' (stored as float16, computed in float32), 'int8' or 'int4' (codes and scales);
            'auto' takes the precisions and row sizes that change scores least within `max_bytes`.
        max_bytes: size limit of the whole bundle, all files included; None for no limit.
        fit: shorten or prune tables that exceed the limits, so that scores change least.
        max_rss: limit of the peak memory of one request in bytes, above an empty onnxruntime session, measured in a
            fresh process.
        max_ms: limit of the expected milliseconds of one request, by the calibration; layouts and precisions that are
            expected to take longer, or were not measured, are ruled out.
        users: include the user table if there is one; False requires an encoder.
        titles: include item titles if there are any.
        ids: 'raw' includes the raw ids; 'hash64' the 64-bit hashes of text ids, so that requests take text and answers
            have hashes; with 'none' requests use row numbers, whose raw ids are in `id_map` and `Export.item_ids`.
        id_map: CSV file to write outside the bundle, with the side (item or user), row number and raw id of each row.
        similar: include the graph of similar items, which adds two bytes an item; None to include it if it fits.
        lookup: include a second copy of the items for row look-ups, for the layout csc, whose own look-ups are slow.
        scales: of integer precisions: 'table' has one scale for the whole item table (fastest), 'block' one for each
            block of rows, 'row' one for each row (two bytes each); 'auto' takes 'table' for int8 and 'block' for int4,
            and 'row' for a table in which most rows would be rounded to zero.
        user_scales: the same for the user table; None for the value of `scales`.
        rotate: multiply both tables by the same orthogonal matrix before values are rounded to integers, in the layouts
            dense and mixed. Scores stay the same, and codes lose less of them; see `edgerec_export.layouts.rotation`.
        version: version of the bundle format: '2.0', or '1.0' for readers from before it, in more bytes.
        rollback_index: number below which devices do not go back, once they have this bundle; None for 0, or for that
            of the older bundle.
        like: folder of an older bundle. Its layout, precisions, scales, rotation and row widths are used again, so
            that unchanged rows keep their bytes and a patch between the two bundles stays small; values that exceed an
            old scale are clipped. Rows of integers that changed little keep their codes (`edgerec_export.follow`).
            Its limit holds if `max_bytes` is None.
            `layout`, `precision`, `scales`, `user_scales` and `fit` keep their defaults.
            `users`, `titles`, `ids`, `similar`, `lookup` and `rollback_index` follow the older bundle if they have
            their defaults, and so does `version`, always; attributes are its own if `source` has none.
        calibration: file of measured costs of another device, as `python -m edgerec_bench.calibrate` writes; None for
            the built-in one.
        sign: file of the private ed25519 key to sign the bundle with, as `edgerec keys new` writes; needs the extra
            'sign'.
        verify: compare the answers of the bundle with numpy in a fresh process.
        overwrite: replace an existing id map, and a manifest in `out` that is not a bundle's.
        progress: called before each step with an `ExportStep`, for a progress bar.

    Raises:
        BudgetError: the bundle exceeds `max_bytes` (the message names the smallest possible size) or `max_rss`; nothing
            is written.
        UnsupportedError: an unknown layout, precision, scale or id setting, or settings that exclude each other.
        VerificationError: the bundle's answers differ from those of numpy; nothing is written.
        BundleError: `like` is not a whole bundle.
        ExportError: `out` contains something other than a bundle, or `id_map` lies in `out`.
        OutputError: an output is also an input, or the id map exists.
        RangeError: values are too large or too small for float32 scores or for the precision; the message names a row.
        SigningKeyError: `sign` is not a private ed25519 key.
        StorageError: the file system refuses to read or write.
    """
    request = ExportRequest(
        layout=layout,
        precision=precision,
        max_bytes=max_bytes,
        fit=fit,
        max_rss=max_rss,
        max_ms=max_ms,
        users=users,
        titles=titles,
        ids=ids,
        id_map=id_map,
        similar=similar,
        lookup=lookup,
        scales=scales,
        user_scales=user_scales,
        rotate=rotate,
        version=version,
        rollback_index=rollback_index,
        like=like,
        calibration=calibration,
        sign=sign,
        verify=verify,
    )
    return export_request(source, out, request, overwrite=overwrite, progress=progress)


def export_request(
    source: Source,
    out: str | Path,
    request: ExportRequest,
    *,
    overwrite: bool = False,
    progress: OnStep | None = None,
) -> Export:
    """Write the bundle of a checked request; the other arguments and the errors are those of `export`."""
    folder = Path(out)
    id_map, sign, calibration = (
        None if path is None else Path(path) for path in (request.id_map, request.sign, request.calibration)
    )
    request = replace(request, one_file=folder.suffix == SUFFIX and not folder.is_dir())
    if not request.one_file:
        check_place(folder, overwrite=overwrite)
    if id_map is not None and folder.resolve() in (id_map.resolve(), *id_map.resolve().parents):
        raise ExportError(f"the id map {id_map} would lie in the bundle; choose another --id-map")
    outputs = [one_file_output(folder) if request.one_file else Output(folder, ours=always, folder=True)]
    if id_map is not None:
        outputs.append(Output(id_map, "--id-map"))
    check_outputs(outputs, [sign, calibration, request.like], overwrite=overwrite)
    signer = None if sign is None else read_signer(sign)
    request = request.resolved()
    if request.like is not None:
        older = PreviousAttributes(request.like)
        attributes = source.attributes or older.of(source.item_ids)
        source = replace(source, attributes=attributes, older_texts=older.texts())
    try:
        return _retry_finer(request, lambda one: _export_within(source, folder, one, signer, progress or _ignore))
    except BudgetError as refusal:
        raise _with_sufficient_size(source, folder, request, refusal) from None


def _ignore(step: ExportStep) -> None:
    """Take a step of an export without progress."""


def _export_within(
    source: Source, folder: Path, request: ExportRequest, signer: Signer | None, progress: OnStep
) -> Export:
    """Export within `max_bytes`; the size of one file is an estimate until it is written."""
    room = 0
    for _ in range(MOST_ATTEMPTS):
        within = request if request.max_bytes is None else replace(request, max_bytes=request.max_bytes - room)
        try:
            return _export(source, folder, within, signer, request.max_bytes, progress)
        except _LargerThanDraftedError as larger:
            room += larger.excess
    raise ExportError(f"{folder} becomes larger than {request.max_bytes} bytes at each attempt; report this as a fault")


class _LargerThanDraftedError(Exception):
    """A bundle in one file that takes `excess` bytes more than its limit."""

    def __init__(self, excess: int) -> None:
        super().__init__(excess)
        self.excess = excess


def _retry_finer(request: ExportRequest, make: Callable[[ExportRequest], Result]) -> Result:
    """Return the result of `make`; if a precision rounds too many rows to zero, retry with one scale a row."""
    try:
        return make(request)
    except RangeError as error:
        finer = request.with_finer_scales(error.side)
        if finer is None:
            raise
        return make(finer)


def _with_sufficient_size(source: Source, folder: Path, request: ExportRequest, refusal: BudgetError) -> BudgetError:
    """Return the refusal of a size limit with a size that is certainly sufficient.

    The smallest size in `refusal` may be too small: only packing shows if one scale a row is needed, which takes more
    bytes. So tables are packed at that size, and at the next refusal's, until one succeeds.

    Raises RangeError if rows are rounded to zero at that size with any scales.
    """
    limit, why = request.max_bytes, ""
    if limit is None or (refusal.smallest or 0) <= limit:
        return refusal
    smallest = limit

    def pack_alone(one: ExportRequest) -> None:
        draft = _choose(source, one, _ignore).draft
        if draft.precisions() != {"fp32"}:
            with _scratch(folder) as scratch:
                pack(draft, draft.tables.create(scratch / "tables.part"))

    while (refusal.smallest or 0) > smallest:
        why, smallest = str(refusal).partition("; ")[2], refusal.smallest or 0
        try:
            # The manifest states the limit, whose digits count too.
            _retry_finer(replace(request, max_bytes=smallest, stated_limit=smallest), pack_alone)
        except BudgetError as larger:
            refusal = larger
    return BudgetError(too_large(limit, why), smallest)


def _export(
    source: Source, folder: Path, request: ExportRequest, signer: Signer | None, max_bytes: int | None, progress: OnStep
) -> Export:
    chosen = _choose(source, request, progress)
    draft = chosen.draft
    progress(ExportStep("writing"))
    with _scratch(folder) as scratch:
        names, packed = _write(scratch, draft, signer)
        sizes = {name: (scratch / name).stat().st_size for name in names}
        total = sum(sizes.values())
        if request.one_file:
            total = write_packed(scratch, scratch / ONE_FILE)
            if max_bytes is not None and total > max_bytes:
                raise _LargerThanDraftedError(total - max_bytes)
        elif max_bytes is not None and total > max_bytes:
            raise BudgetError(f"{total} bytes were written where {max_bytes} were promised")
        verification = None
        if request.verify:
            progress(ExportStep("verifying"))
            verification = verify_bundle(scratch, packed.reference(), 0 if draft.users is None else draft.users.n_rows)
        peak = None if request.max_rss is None else _check_memory(scratch, packed.reference(), draft, request.max_rss)
        if request.id_map is not None:
            _write_id_map(Path(request.id_map), draft)
        lost = packed.rounded_to_zero(source, draft)
        if request.one_file:
            (scratch / ONE_FILE).replace(folder)
            sync_folder(folder.parent)
        else:
            _install(scratch, folder, names)
    parts = draft.tables.parts() | {_part(name): size for name, size in sizes.items() if not name.endswith(".bin")}
    if request.one_file:
        parts = draft.tables.parts() | {"head": total - draft.tables.nbytes}
    left_out = request.similar is None and not draft.request.similar and draft.scorer is None
    return Export(folder, total, parts, verification, chosen, peak, lost, left_out, obstacle(draft))


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Create a folder for the new bundle next to `folder`, and remove leftovers of killed exports."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder.parent, folder.name)
        with new_part_folder(folder) as scratch:
            scratch.chmod(0o755)
            yield scratch
    except OSError as error:
        storage_failure(folder, error, "write")


def _check_memory(folder: Path, reference: Reference, draft: Draft, max_rss: int) -> int:
    """Return the peak memory of one request in a fresh process. Raises BudgetError if it exceeds the limit."""
    subject = one_subject(reference, 0 if draft.users is None else draft.users.n_rows)
    peak = peak_of_one(folder, reference.n_items, subject)
    if peak is None:
        raise UnsupportedError("peak memory cannot be measured without /proc; export on Linux, or leave --max-rss out")
    if peak > max_rss:
        raise BudgetError(
            f"one request took {peak} bytes of memory above a bare session, measured in a fresh process; "
            f"--max-rss allows {max_rss}: --fit a smaller --max-bytes, or export with --precision int8"
        )
    return peak


def _choose(source: Source, request: ExportRequest, progress: OnStep) -> Chosen:
    """Return the chosen bundle; without `max_bytes`, within the budget in bytes of the training if possible.

    Titles are not part of that budget.
    """
    if request.max_bytes is None and source.budget_bytes is not None and not request.titles:
        with contextlib.suppress(BudgetError):  # settings may take more bytes than the training assumed
            return choose(source, replace(request, max_bytes=source.budget_bytes), progress)
    return choose(source, request, progress)


def check_place(folder: Path, *, overwrite: bool) -> None:
    """Raise ExportError if the folder has anything but a bundle, whole or damaged (`overwrite`: any manifest)."""
    try:
        if folder.exists() and not folder.is_dir():
            raise ExportError(f"{folder} is a file; a bundle is a folder: choose another --out")
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        storage_failure(folder, error, "read")
    try:
        if FILE_NAME in names:
            read_manifest(folder)
    except BundleError as error:
        if not all(OURS.fullmatch(name) for name in names) or _is_newer(folder / FILE_NAME):
            raise ExportError(f"{folder} holds something else ({error}); choose another --out") from error
        if not overwrite and not _is_damaged(folder, names):
            raise ExportError(
                f"{folder} holds something else ({error}); choose another --out, or give --overwrite"
            ) from error
        return
    if names and FILE_NAME not in names and not all(OURS.fullmatch(name) for name in names):
        raise ExportError(f"{folder} is not empty and holds no bundle; choose another --out")


def _is_damaged(folder: Path, names: Iterable[str]) -> bool:
    """Return True if an unreadable manifest is that of a bundle: by its format, or truncated next to a tables file."""
    manifest = folder / FILE_NAME
    if json_of(FORMAT)(manifest):
        return True
    try:
        parse_json(manifest.read_bytes())
    except ValueError:
        return any(name.startswith("tables-") and OURS.fullmatch(name) for name in names)
    return False


def _is_newer(manifest: Path) -> bool:
    """Return True if an unreadable manifest is that of a bundle of a newer version."""
    try:
        fields = parse_json(manifest.read_bytes())
        version = int(str(fields.get("version")).partition(".")[0])
    except (ValueError, AttributeError):
        return False
    return fields.get("format") == FORMAT and version > MAJOR


def _write(scratch: Path, draft: Draft, signer: Signer | None) -> tuple[list[str], Packed]:
    """Write every file of the bundle, and return the names, the manifest last, and the packed tables."""
    partial = scratch / "tables.part"
    packed = pack(draft, draft.tables.create(partial))
    with partial.open("rb+") as stream:
        sync(stream)
    scales = {name: table.scales for name, table in packed.tables.items()}
    files = draft.finish(sha256(partial), scales, packed.top_inverse_norm, _sha256, signer)
    manifest = json.loads(files[FILE_NAME])
    tables = str(manifest["tables"]["file"])
    partial.rename(scratch / tables)
    for name, content in files.items():
        with (scratch / name).open("wb") as stream:
            stream.write(content)
            sync(stream)
    return [tables, *files], packed


def _install(scratch: Path, folder: Path, names: list[str]) -> None:
    """Move the files to the folder of the bundle; the manifest, last in `names`, after all others are on disk."""
    folder.mkdir(exist_ok=True)
    with locked(folder):
        before = {path.name for path in folder.iterdir()}
        for name in names[:-1]:
            (scratch / name).replace(folder / name)
        sync_folder(folder)
        (scratch / names[-1]).replace(folder / names[-1])
        sync_folder(folder)
        for name in before - set(names):
            if OURS.fullmatch(name):
                (folder / name).unlink(missing_ok=True)


def _write_id_map(path: Path, draft: Draft) -> None:
    with atomic_write(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        lines = csv.writer(text)
        lines.writerow(["side", "row", "id"])
        for side, ids in draft.raw_ids().items():
            lines.writerows([side, row, one] for row, one in enumerate(ids.tolist()))
        text.detach()  # flushes, and leaves the stream open


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _part(name: str) -> str:
    if name.endswith(".onnx"):
        return f"{name.split('-')[0]} graph"
    return "model card" if name.endswith(".md") else name
