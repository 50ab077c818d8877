"""This process's memory, shared pages told apart, and that of a process with a bare session alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgerec.runtime.memory import memory_kib, run_bare_session

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

SMAPS_ROLLUP = Path("/proc/self/smaps_rollup")
SHARED = ("Pss", "Pss_Anon", "Pss_File")


def memory_figures() -> dict[str, int]:
    """KiB: VmHWM (peak), VmRSS, RssAnon, RssFile, RssShmem, VmSwap, and Pss, Pss_Anon, Pss_File where readable.

    Empty where there is no /proc. Pss counts a page that n processes share as one n-th.
    """
    figures = memory_kib()
    try:
        lines = SMAPS_ROLLUP.read_text().splitlines()
    except OSError:
        return figures
    pairs = (line.split(":") for line in lines if ":" in line)
    return figures | {name: int(rest.split()[0]) for name, rest in pairs if name in SHARED}


def page_faults() -> dict[str, int]:
    """Pages that this process had to be given so far: minor without the disk, major from it; empty where not told."""
    if resource is None:
        return {}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"minor": usage.ru_minflt, "major": usage.ru_majflt}


def faults_since(before: dict[str, int]) -> dict[str, int]:
    """The same since it was asked before."""
    return {name: count - before[name] for name, count in page_faults().items()}


def bare(request: dict[str, Any]) -> dict[str, Any]:
    """{"memory": figures} of a process that only runs the bare session."""
    run_bare_session(int(request["threads"]))
    return {"memory": memory_figures()}
