"""The protocol of the agents: what this machine's answers, and what the schema refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgerec.runtime.bundle import Bundle
from tests.devices.exchanges import CheckedLocal, faults_of
from tests.devices.web import BUNDLES, QUICK

BUNDLE = str(BUNDLES / "dense-fp32-ials")


@pytest.mark.slow
@pytest.mark.parametrize(
    "request_",
    [
        {"task": "bare", "threads": 1},
        {"task": "bundle", "scenarios": ["recommend", "score", "lookup", "history"]},
        {"task": "bundle", "scenarios": ["load", "sustained", "offline"], "sustained_seconds": 0.1},
    ],
    ids=["bare", "bundle", "apart"],
)
def test_the_answers_of_this_machine_follow_the_protocol(request_: dict[str, Any]) -> None:
    assert CheckedLocal().run({**QUICK, "bundle": BUNDLE, **request_})


def test_the_answers_to_single_users_follow_the_protocol() -> None:
    bundle = Bundle(BUNDLES / "no-similar")
    assert bundle.manifest.users is not None
    users = bundle.ids("user", bundle.manifest.users).raw(np.arange(2))
    request = {**QUICK, "task": "bundle", "bundle": str(bundle.folder), "scenarios": ["recommend"], "ask": users}
    assert [len(items) for items in CheckedLocal().run(request)["answers"]] == [QUICK["k"]] * 2


GOOD: dict[str, Any] = {
    "load_ms": 1.5,
    "verify_ms": None,
    "memory": {"VmHWM": 30000},
    "scenarios": {"recommend": {"first_ns": 9, "times_ns": [7, 8]}},
    "rows": [[3, 1]],
}


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda answer: {key: value for key, value in answer.items() if key != name}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("memory"), "memory"),
        (without("scenarios"), "scenarios"),
        (lambda answer: {**answer, "loadMs": 3}, "loadMs"),
        (lambda answer: {**answer, "memory": {"VmHWM": "30 MB"}}, "VmHWM"),
        (lambda answer: {**answer, "memory": {"heap": 3}}, "heap"),
        (lambda answer: {**answer, "scenarios": {"recommend": {"first_ns": 9, "times_ns": []}}}, "recommend"),
        (lambda answer: {**answer, "scenarios": {"dance": {"first_ns": 9, "times_ns": [1]}}}, "dance"),
        (lambda answer: {**answer, "faults": {"load": {"minor": 1}}}, "major"),
        (lambda answer: {}, "answer"),
    ],
)
def test_another_answer_is_refused(change: Callable[[dict[str, Any]], dict[str, Any]], said: str) -> None:
    request = {**QUICK, "task": "bundle", "bundle": BUNDLE}
    assert faults_of(request, GOOD) == []
    assert said in "\n".join(faults_of(request, change(GOOD)))


@pytest.mark.parametrize(
    "request_",
    [{"task": "dance"}, {"task": "bundle"}, {**QUICK, "task": "bundle", "bundle": BUNDLE, "scenarios": ["dance"]}, {}],
)
def test_another_request_is_refused(request_: dict[str, Any]) -> None:
    assert any("$.request" in fault for fault in faults_of(request_, GOOD))
