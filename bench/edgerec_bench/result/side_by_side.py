"""Results side by side: one line per figure, with the value of each bundle and its ratio to the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from edgerec.budget import format_bytes
from edgerec_bench.result.process import CLOCKS, INSTRUCTIONS, TIME, Clock, Process, Sustained
from edgerec_bench.result.result import Result

Figure = Callable[[Result], float | None]

ALIKE = (
    "cpu", "architecture", "cores", "usable_cores", "governor", "memory_bytes", "os", "kernel", "python", "numpy",
    "onnxruntime", "ort_telemetry", "provider",
)  # fmt: skip
"""Facts of a device that affect its figures."""
WORK = ("k", "exclude", "history", "candidates", "threads")
"""Settings that change what a call does; the others only change how often it is repeated."""


@dataclass(frozen=True)
class Line:
    """One figure of every bundle.

    Attributes:
        group: heading of the line.
        values: value of each bundle; None if unknown.
        texts: the values as text.
        ratios: '0.14x' of the reference; empty for the reference itself and for figures without a meaningful ratio.
    """

    group: str
    label: str
    values: tuple[float | None, ...]
    texts: tuple[str, ...]
    ratios: tuple[str, ...]


def reference(results: Sequence[Result]) -> int:
    """Return the index of the result that ratios refer to: the first dense fp32 bundle, otherwise the first."""
    for number, result in enumerate(results):
        if (result.bundle.layout, result.bundle.precision) == ("dense", "fp32"):
            return number
    return 0


def lines(results: Sequence[Result]) -> list[Line]:
    """Return every figure that at least one of the results has."""
    listed = [*_quality(results), *_sizes(results), *_calls(results), *_once(results), *_loads(results)]
    listed += [*_memory(results), *_faults(results), *_costs(results)]
    return [line for line in listed if any(value is not None for value in line.values)]


def unlike_devices(results: Sequence[Result]) -> list[str]:
    """Return the names of the device facts and settings that differ; empty if the figures can be compared."""
    return list(differences(results))


def differences(results: Sequence[Result]) -> dict[str, list[str]]:
    """Return the device facts and settings that differ, each with its value in every result."""
    shown = {name: [str(result.device.get(name, "unknown")) for result in results] for name in ALIKE}
    shown |= {"runtime": [r.runtime for r in results], "clock": [r.clock.name for r in results]}
    shown |= {name: [str(getattr(result.settings, name)) for result in results] for name in WORK}
    return {name: values for name, values in shown.items() if len(set(values)) > 1}


def answered_by(result: Result) -> str:
    """Return what answered, and where if that is not a program of this machine: 'kernel in node'."""
    program = "kernel" if result.device.get("provider") == "kernel" else "onnxruntime"
    if result.clock is INSTRUCTIONS and "cpu" in result.device:
        return f"{program} on {result.device['cpu']}"
    return program if result.runtime == "python" else f"{program} in {result.runtime}"


def with_unique_names(results: Sequence[Result]) -> list[Result]:
    """Append what answered to repeated bundle names, if that differs; then a number to those still repeated, as
    for one bundle before and after a change."""
    answerers: dict[str, set[str]] = {}
    for result in results:
        answerers.setdefault(result.bundle.name, set()).add(answered_by(result))
    seen: Counter[str] = Counter()
    named = []
    for result in results:
        name = result.bundle.name
        if len(answerers[name]) > 1:
            name = f"{name}, {answered_by(result)}"
        seen[name] += 1
        bundle = replace(result.bundle, name=f"{name} ({seen[name]})" if seen[name] > 1 else name)
        named.append(replace(result, bundle=bundle))
    return named


def shown(unit: str) -> Callable[[float], str]:
    """Return the formatter for figures of a unit."""
    return {"bytes": format_bytes, "users/s": "{:,.0f}".format, "instr.": "{:,.0f}".format}.get(unit, milliseconds)


def milliseconds(value: float) -> str:
    """Format milliseconds (or millions of instructions) to the resolution of clocks: '0.0412', '1.54', '722'."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.4f}"


def _line(
    group: str,
    label: str,
    results: Sequence[Result],
    figure: Figure,
    show: Callable[[float], str],
    *,
    ratio: bool = True,
) -> Line:
    values = tuple(figure(result) for result in results)
    first = reference(results)
    ratios = tuple(_ratio(values[n], values[first]) if ratio and n != first else "" for n in range(len(values)))
    return Line(group, label, values, tuple("-" if value is None else show(value) for value in values), ratios)


def _ratio(value: float | None, base: float | None) -> str:
    """Format a ratio: '2.31x', '0.0039x'; empty for unknown values and for memory below that of the bare session."""
    if value is None or base is None or base <= 0 or value < 0:
        return ""
    ratio = value / base
    return f"{ratio:.2f}x" if ratio >= 0.1 or ratio == 0 else f"{ratio:.2g}x"


def _quality(results: Sequence[Result]) -> list[Line]:
    group = "Test quality of the trained tables"
    return [
        _line(group, "NDCG@20", results, lambda result: result.bundle.metric("ndcg@20"), "{:.4f}".format),
        _line(group, "Recall@20", results, lambda result: result.bundle.metric("recall@20"), "{:.4f}".format),
    ]


def _sizes(results: Sequence[Result]) -> list[Line]:
    whole = _line("Bytes", "bundle", results, lambda result: result.bundle.nbytes, format_bytes)
    parts = dict.fromkeys(part for result in results for part in result.bundle.parts)
    return [whole] + [_line("Bytes", part, results, _part(part), format_bytes, ratio=False) for part in parts]


def _part(name: str) -> Figure:
    return lambda result: result.bundle.parts.get(name)


def _calls(results: Sequence[Result]) -> Iterator[Line]:
    """Yield latencies under one heading per kind of clock, so that no line mixes milliseconds and instructions."""
    scenarios = dict.fromkeys(name for result in results for name in result.measured.scenarios)
    for clock in CLOCKS.values():
        for scenario, percentile in product(scenarios, ("p50", "p95", "p99", "max")):
            figure = _of_clock(clock, _latency(scenario, f"{percentile}_ms"))
            yield _line(clock.calls, f"{scenario} {percentile}", results, figure, milliseconds)


def _once(results: Sequence[Result]) -> Iterator[Line]:
    """Yield figures that wait for the disk and for other threads, of devices whose clock counts time."""
    figures: dict[str, Figure] = {
        "load": lambda result: result.measured.load_ms,
        "first call": _latency("recommend", "first_ms"),
        "load, cold": lambda result: result.measured.cold("load_ms"),
        "first call, cold": lambda result: result.measured.cold("first_ms"),
        "verification": lambda result: result.measured.verify_ms,
    }
    for label, figure in figures.items():
        yield _line(TIME.once, label, results, _of_clock(TIME, figure), milliseconds)


def _of_clock(clock: Clock, figure: Figure) -> Figure:
    return lambda result: figure(result) if result.clock is clock else None


def _latency(scenario: str, figure: str) -> Figure:
    return lambda result: result.measured.figure(scenario, figure)


def _loads(results: Sequence[Result]) -> Iterator[Line]:
    ends: dict[str, tuple[Callable[[Sustained], float], Callable[[float], str]]] = {
        "p50 at the beginning, ms": (lambda load: load.start_ms, milliseconds),
        "p50 at the end, ms": (lambda load: load.end_ms, milliseconds),
        "speed at the end": (lambda load: load.speed_ratio, "{:.0%}".format),
    }
    for label, (of, show) in ends.items():
        yield _line("Sustained load", label, results, _sustained(of), show, ratio=label.startswith("p50"))
    for name in dict.fromkeys(name for result in results for name in result.measured.throughputs):
        yield _line("Offline: users per second", name, results, _throughput(name), "{:,.0f}".format)


def _sustained(of: Callable[[Sustained], float]) -> Figure:
    return lambda result: None if (load := result.measured.sustained) is None else of(load)


def _throughput(name: str) -> Figure:
    return lambda result: result.measured.throughputs.get(name)


def _memory(results: Sequence[Result]) -> Iterator[Line]:
    figures = {"peak": "VmHWM", "anonymous": "RssAnon", "file-backed": "RssFile", "swapped": "VmSwap"}
    figures |= {"Pss, anonymous": "Pss_Anon", "Pss, file-backed": "Pss_File", "WebAssembly's heap": "wasm_heap"}
    for label, name in figures.items():
        yield _line("Memory above a bare session", label, results, _above_bare(name), format_bytes)
    for label, name in figures.items():
        yield _line("Memory, absolute", label, results, _absolute(name), format_bytes)


def _above_bare(name: str) -> Figure:
    return lambda result: result.measured.above_bare(name)


def _absolute(name: str) -> Figure:
    return lambda result: result.measured.memory(name)


def _faults(results: Sequence[Result]) -> Iterator[Line]:
    """Yield the page faults of loading, and of all scenarios together."""
    for kind in ("minor", "major"):
        yield _line("Page faults", f"load, {kind}", results, _faults_of(True, kind), "{:,.0f}".format, ratio=False)
    for kind in ("minor", "major"):
        yield _line("Page faults", f"calls, {kind}", results, _faults_of(False, kind), "{:,.0f}".format, ratio=False)


def _faults_of(loading: bool, kind: str) -> Figure:
    def of_process(process: Process) -> float | None:
        counts = [one[kind] for name, one in process.faults.items() if (name == "load") == loading and kind in one]
        return sum(counts) if counts else None

    return lambda result: result.measured.median(of_process)


def _costs(results: Sequence[Result]) -> Iterator[Line]:
    kinds = {
        "instructions": ("Instructions per call, counted by the processor", "{:,.0f}".format),
        "joules": ("Joules per call, of the whole package", "{:.3g}".format),
    }
    scenarios = dict.fromkeys(name for r in results for one in r.measured.processes for name in one.cost)
    for kind, (group, show) in kinds.items():
        for scenario in scenarios:
            yield _line(group, scenario, results, _cost(scenario, kind), show)


def _cost(scenario: str, kind: str) -> Figure:
    return lambda result: result.measured.cost(scenario, kind)
