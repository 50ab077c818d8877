"""Results side by side: one line a figure, one value a bundle, each beside its ratio to the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgerec.budget import format_bytes
from edgerec_bench.result import Result

ALIKE = (
    "cpu", "architecture", "cores", "usable_cores", "governor", "memory_bytes", "os", "kernel", "python", "numpy",
    "onnxruntime", "ort_telemetry",
)  # fmt: skip
"""Facts of a device that its figures depend on."""
WORK = ("k", "exclude", "history", "candidates", "threads")
"""Settings that change what a call does; the others only say how often it is repeated."""


@dataclass(frozen=True)
class Line:
    """One figure of every bundle.

    Attributes:
        group: the heading that it stands under.
        values: one a bundle; None where it is unknown.
        texts: the same for people.
        ratios: '0.14x' of the reference; empty for the reference itself and where a ratio says nothing.
    """

    group: str
    label: str
    values: tuple[float | None, ...]
    texts: tuple[str, ...]
    ratios: tuple[str, ...]


def reference(results: Sequence[Result]) -> int:
    """Which result the ratios are to: the first dense fp32 bundle, else the first."""
    for number, result in enumerate(results):
        if (result.bundle.layout, result.bundle.precision) == ("dense", "fp32"):
            return number
    return 0


def lines(results: Sequence[Result]) -> list[Line]:
    """Every figure that at least one of the results has."""
    listed = [*_quality(results), *_sizes(results), *_times(results), *_memory(results)]
    return [line for line in listed if any(value is not None for value in line.values)]


def unlike_devices(results: Sequence[Result]) -> list[str]:
    """The facts of the devices and the settings that differ; empty where the figures can be compared."""
    return list(differences(results))


def differences(results: Sequence[Result]) -> dict[str, list[str]]:
    """The same, each with its value in every result."""
    shown = {name: [str(result.device.get(name, "unknown")) for result in results] for name in ALIKE}
    shown |= {name: [str(getattr(result.settings, name)) for result in results] for name in WORK}
    return {name: values for name, values in shown.items() if len(set(values)) > 1}


def milliseconds(value: float) -> str:
    """'0.0412', '1.54', '722': never finer than a clock can tell."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 1 else f"{value:.4f}"


def _line(
    group: str,
    label: str,
    results: Sequence[Result],
    figure: Callable[[Result], float | None],
    show: Callable[[float], str],
    *,
    ratio: bool = True,
) -> Line:
    values = tuple(figure(result) for result in results)
    first = reference(results)
    ratios = tuple(_ratio(values[n], values[first]) if ratio and n != first else "" for n in range(len(values)))
    return Line(group, label, values, tuple("-" if value is None else show(value) for value in values), ratios)


def _ratio(value: float | None, base: float | None) -> str:
    """'2.31x', '0.0039x'. Empty where there is nothing to divide, and for memory that the bare session exceeds."""
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


def _part(name: str) -> Callable[[Result], float | None]:
    return lambda result: result.bundle.parts.get(name)


def _times(results: Sequence[Result]) -> list[Line]:
    listed = []
    for scenario in dict.fromkeys(name for result in results for name in result.measured.scenarios):
        for figure in ("p50_ms", "p95_ms", "p99_ms"):
            label = f"{scenario} {figure[:3]}"
            listed.append(_line("Milliseconds a call, warm", label, results, _latency(scenario, figure), milliseconds))
    opening = "Milliseconds, once"
    return [
        *listed,
        _line(opening, "load", results, lambda result: result.measured.load_ms, milliseconds),
        _line(opening, "first call", results, _latency("recommend", "first_ms"), milliseconds),
        _line(opening, "verification", results, lambda result: result.measured.verify_ms, milliseconds),
    ]


def _latency(scenario: str, figure: str) -> Callable[[Result], float | None]:
    def read(result: Result) -> float | None:
        return result.measured.latency(scenario, figure) if scenario in result.measured.scenarios else None

    return read


def _memory(results: Sequence[Result]) -> list[Line]:
    figures = {"peak": "VmHWM", "anonymous": "RssAnon", "file-backed": "RssFile", "swapped": "VmSwap"}
    figures |= {"Pss, anonymous": "Pss_Anon", "Pss, file-backed": "Pss_File"}
    group = "Memory above a bare session"
    return [_line(group, label, results, _above_bare(name), format_bytes) for label, name in figures.items()]


def _above_bare(name: str) -> Callable[[Result], float | None]:
    return lambda result: result.measured.above_bare(name)
