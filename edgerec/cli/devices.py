"""edgerec devices: lists, sets up and checks the devices that bundles can be measured on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click

from edgerec.budget import parse_bytes
from edgerec.cli.help import Choice, F, Group, argument, option
from edgerec.cli.output import json_option, print_json
from edgerec.console import messages, print_facts, print_table
from edgerec.errors import BenchError, EdgeRecError, MissingExtraError, reason_of
from edgerec_bench.device_check import check_bundle
from edgerec_devices.arm64.device import MEMORY as ARM64_MEMORY
from edgerec_devices.protocol import Device, Kind, Tell, set_up
from edgerec_devices.registry import KINDS, kind_of, open_device

FORMS = ", ".join(kind.form for kind in KINDS.values())
SET_UP = [kind.name for kind in KINDS.values() if kind.set_up]
"""Kinds of devices that 'edgerec devices setup' downloads something for."""


@click.group("devices", cls=Group)
def command() -> None:
    """List the devices that bundles can be measured on, set them up and check them.

    \b
    Example:
      edgerec devices list

    A device is this machine (local), a Linux machine behind SSH such as a Raspberry Pi (ssh), an emulated Raspberry Pi
    (arm64), an Android device (adb), a browser or Node.js (node). 'edgerec bench --device ADDRESS' measures on it.

    Parts of an address in brackets may be left out. adb takes the only connected device, or the one with the given
    serial number. browser starts a headless Chromium; :webgpu computes on the graphics processor, and :open waits until
    you open the printed page in any browser. If that browser is on another machine, such as a phone, HOST is the
    address of this machine in their network.

    \b
    More examples:
      edgerec devices setup arm64
      edgerec devices check arm64
      edgerec devices info ssh://pi@raspberrypi.local
    """


@command.command("list")
@json_option
def list_devices(as_json: bool) -> None:
    """List the kinds of devices, the address of each, and what is missing here to use it.

    \b
    Example:
      edgerec devices list

    Nothing is changed or downloaded, and no device is opened.
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
    """Add --offline and --memory, which say how a device is opened."""
    wrapped = option(
        "--memory",
        metavar="SIZE",
        show_default=f"{ARM64_MEMORY >> 20}MiB for arm64, the program's own limit for browser and node",
        help="Memory of a device that is started here (arm64, browser, node, wasm), such as 128MiB.",
    )(wrapped)
    return option(
        "--offline",
        is_flag=True,
        help="Send the packages from here to a device behind SSH that has no internet; otherwise that device downloads "
        "them.",
    )(wrapped)


address_argument = argument("address", help=f"Address of the device: {FORMS} (see 'edgerec devices --help').")


@command.command("info")
@address_argument
@device_options
@json_option
def info(address: str, offline: bool, memory: str | None, as_json: bool) -> None:
    """Show a device's processor, memory, system and versions.

    \b
    Example:
      edgerec devices info ssh://pi@raspberrypi.local

    A fact that cannot be read is left out.
    """
    with _opened(address, offline, memory) as device:
        facts = device.info()
    if as_json:
        print_json(facts)
    else:
        print_facts("", facts)


@command.command("setup")
@argument(
    "kind",
    metavar="KIND",
    type=Choice(SET_UP),
    help=f"Kind of device to set up: {', '.join(SET_UP)}.",
)
@option("--again", is_flag=True, help="Set it up again, to get newer packages or to repair it.")
def setup(kind: str, again: bool) -> None:
    """Download what a kind of device needs into the user's cache folder.

    \b
    Example:
      edgerec devices setup arm64

    Nothing is done if it is there already. The devices local and ssh need no set-up.
    """
    with _telling() as tell:
        set_up(KINDS[kind], tell, again=again)
    missing = KINDS[kind].missing()
    if missing:
        raise BenchError(f"{kind} still needs {missing[0].what}: {missing[0].fix}")
    messages.print(f"{kind} is ready", markup=False)


@command.command("check")
@address_argument
@device_options
@json_option
def check(address: str, offline: bool, memory: str | None, as_json: bool) -> None:
    """Check that a device measures: open it, run a small bundle there, and compare its answers with this machine's.

    \b
    Example:
      edgerec devices check arm64

    The exit status is 2 if a step fails; the last line then says how to fix it.
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
        raise click.exceptions.Exit(2)


STEPS = ("needs", "opens", "facts", "measures", "answers")


def _steps(address: str, offline: bool, memory: str | None) -> Iterator[tuple[str, str]]:
    """Yield each step of STEPS once it is done, with what it found. Raises EdgeRecError at the first that fails."""
    if missing := kind_of(address).missing():
        raise BenchError("; ".join(f"{part.what} is missing: {part.fix}" for part in missing))
    yield STEPS[0], "nothing is missing"
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
    """Yield a function that shows a slow step in a terminal's last line, or elsewhere as a line of its own."""
    with messages.status("") as status:

        def tell(doing: str) -> None:
            if messages.is_terminal:
                status.update(doing)
            else:
                messages.print(doing, markup=False)

        yield tell
