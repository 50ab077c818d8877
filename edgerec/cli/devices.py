"""`edgerec devices`: what can be measured on from here, what is missing for it, and bringing it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click

from edgerec.budget import parse_bytes
from edgerec.cli.options import F
from edgerec.cli.output import json_option, print_json
from edgerec.console import messages, print_facts, print_table
from edgerec.errors import BenchError, EdgeRecError, MissingExtraError, reason_of
from edgerec_bench.device_check import check_bundle
from edgerec_devices.protocol import Device, Kind, Tell, set_up
from edgerec_devices.registry import KINDS, kind_of, open_device

FORMS = ", ".join(kind.form for kind in KINDS.values())


@click.group("devices")
def command() -> None:
    """List devices, bring what they need, ask what they are, and check that they measure.

    \b
    Example:
      edgerec devices list
      edgerec devices setup arm64
      edgerec devices check arm64
      edgerec devices info ssh://pi@raspberrypi.local
    """


@command.command("list")
@json_option
def list_devices(as_json: bool) -> None:
    """List the kinds of devices, how each is written, and what is missing here for it.

    Nothing is changed, nothing is fetched, and no device is opened.

    \b
    Example:
      edgerec devices list
      edgerec devices list --json
    """
    rows = [_kind_facts(kind) for kind in KINDS.values()]
    if as_json:
        print_json(rows)
        return
    columns = ("--device", "what it is", "", "connected")
    print_table(
        "", columns, [(row["form"], row["about"], _readiness(row), ", ".join(row["connected"])) for row in rows]
    )


def _kind_facts(kind: Kind) -> dict[str, Any]:
    missing = kind.missing()
    return {
        "name": kind.name,
        "form": kind.form,
        "about": kind.about,
        "ready": not missing,
        "missing": [asdict(part) for part in missing],
        "connected": [] if missing else kind.discover(),
    }


def _readiness(row: dict[str, Any]) -> str:
    return "\n".join(f"missing {part['what']}: {part['fix']}" for part in row["missing"]) or "ready"


def device_options(wrapped: F) -> F:
    """--offline and --memory: how a device is opened."""
    wrapped = click.option("--memory", metavar="SIZE", help="Memory of a device that is started for this: 128M.")(
        wrapped
    )
    return click.option("--offline", is_flag=True, help="Send the device its packages from here.")(wrapped)


@command.command("info")
@click.argument("address")
@device_options
@json_option
def info(address: str, offline: bool, memory: str | None, as_json: bool) -> None:
    """Say what a device is: processor, memory, system, versions. What cannot be read is absent.

    \b
    Example:
      edgerec devices info local
      edgerec devices info ssh://pi@raspberrypi.local --json
    """
    with _opened(address, offline, memory) as device:
        facts = device.info()
    if as_json:
        print_json(facts)
    else:
        print_facts("", facts)


@command.command("setup")
@click.argument("kind", type=click.Choice([kind.name for kind in KINDS.values() if kind.set_up]))
@click.option("--again", is_flag=True, help="Even if it is there: with newer packages, or because it is damaged.")
def setup(kind: str, again: bool) -> None:
    """Bring what a kind of device needs, to the user's cache folder. Where it is there, nothing is done.

    \b
    Example:
      edgerec devices setup arm64
      edgerec devices setup arm64 --again
    """
    with _telling() as tell:
        set_up(KINDS[kind], tell, again=again)
    missing = KINDS[kind].missing()
    if missing:
        raise BenchError(f"{kind} still needs {missing[0].what}: {missing[0].fix}")
    messages.print(f"{kind} is ready", markup=False)


@command.command("check")
@click.argument("address")
@device_options
@json_option
def check(address: str, offline: bool, memory: str | None, as_json: bool) -> None:
    """Open a device, and let it measure a small bundle as bench does, whose answers must be this machine's.

    The exit status is 2 where something is wrong; the last line then says what mends it.

    \b
    Example:
      edgerec devices check arm64
      edgerec devices check ssh://pi@raspberrypi.local
    """
    checks: list[dict[str, Any]] = []
    try:
        for step, found in _steps(address, offline, memory):
            checks.append({"step": step, "ok": True, "found": found})
    except EdgeRecError as error:
        checks.append({"step": STEPS[len(checks)], "ok": False, "found": reason_of(error)})
    if as_json:
        print_json(checks)
    else:
        print_table("", ("", "", "found"), [("ok" if c["ok"] else "failure", c["step"], c["found"]) for c in checks])
    if not checks[-1]["ok"]:
        sys.exit(2)


STEPS = ("needs", "opens", "facts", "measures", "answers")


def _steps(address: str, offline: bool, memory: str | None) -> Iterator[tuple[str, str]]:
    """Each step of STEPS, once it is done, with what it found. Raises EdgeRecError at the first that fails."""
    if missing := kind_of(address).missing():
        raise BenchError("; ".join(f"{part.what} is missing: {part.fix}" for part in missing))
    yield STEPS[0], "everything is here"
    with _opened(address, offline, memory) as device:
        yield STEPS[1], device.name
        facts = device.info()
        known = [str(facts[name]) for name in ("board", "cpu", "os", "onnxruntime") if name in facts]
        yield STEPS[2], ", ".join(dict.fromkeys(known))
        took = device.run({"task": "bare", "threads": 1})["memory"]
        peak = f"; a bare session takes {took['VmHWM']} KiB" if "VmHWM" in took else ""
        yield STEPS[3], f"onnxruntime opens a session and answers{peak}"
        try:
            yield STEPS[4], check_bundle(device)
        except MissingExtraError as error:
            yield STEPS[4], f"not tried: {error}"


@contextmanager
def _opened(address: str, offline: bool, memory: str | None) -> Iterator[Device]:
    nbytes = None if memory is None else parse_bytes(memory)
    with _telling() as tell, open_device(address, offline=offline, memory=nbytes, tell=tell) as device:
        yield device


@contextmanager
def _telling() -> Iterator[Tell]:
    """What takes long stands in a terminal's last line while the block runs; elsewhere each is a line."""
    with messages.status("") as status:

        def tell(doing: str) -> None:
            if messages.is_terminal:
                status.update(doing)
            else:
                messages.print(doing, markup=False)

        yield tell
