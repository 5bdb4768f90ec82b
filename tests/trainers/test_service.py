"""Rate limit, memory and retries, with a clock and a server of the test's own."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from leakgauge.audit.errors import ConfigError, IncompatibleError, PrerequisiteError
from leakgauge.audit.types import Rows
from leakgauge.trainers.endpoint import Endpoint
from leakgauge.trainers.service import AnswerMemory, RateLimit, Service
from leakgauge.trainers.targets import load_target

ROWS = np.linspace(0, 1, 10, dtype=np.float32)[:, None]


class Clock:
    """A clock that only sleeping and `spend` move."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def counting(asked: list[np.ndarray]):
    def ask(features: np.ndarray) -> np.ndarray:
        asked.append(features.copy())
        return np.column_stack([features[:, 0], 1 - features[:, 0]])

    return ask


def test_calls_are_spaced_evenly_and_a_pause_is_not_made_up_for() -> None:
    clock, times = Clock(), []
    limit = RateLimit(4.0, clock.time, clock.sleep)
    for pause in (0.0, 0.0, 0.1, 3.0, 0.0):
        clock.now += pause
        limit.wait()
        times.append(clock.now)
    np.testing.assert_allclose(np.diff(times), [0.25, 0.25, 3.0, 0.25])
    with pytest.raises(ConfigError, match="rate_limit"):
        RateLimit(0.0)


def test_every_batch_is_one_call_under_the_limit() -> None:
    clock, asked = Clock(), []
    service = Service(RateLimit(2.0, clock.time, clock.sleep), batch_size=3)
    answers = service.calls(counting(asked))(ROWS)
    np.testing.assert_allclose(answers[:, 0], ROWS[:, 0])
    assert [len(a) for a in asked] == [3, 3, 3, 1]
    assert clock.now == pytest.approx(101.5)


def test_nothing_is_asked_twice_by_another_process_either(tmp_path: Path) -> None:
    asked: list[np.ndarray] = []
    first = Service(batch_size=4, memory=AnswerMemory(tmp_path, "model")).calls(counting(asked))
    repeated = np.concatenate([ROWS, ROWS[:3]])
    answers = first(repeated)
    np.testing.assert_allclose(answers[:, 0], repeated[:, 0])
    assert sum(map(len, asked)) == 10
    again = Service(batch_size=4, memory=AnswerMemory(tmp_path, "model")).calls(counting(asked))
    np.testing.assert_array_equal(again(repeated[::-1]), answers[::-1])
    assert sum(map(len, asked)) == 10
    Service(memory=AnswerMemory(tmp_path, "another model")).calls(counting(asked))(ROWS)
    assert sum(map(len, asked)) == 20
    # The same bytes in another shape or type are another question.
    Service(memory=AnswerMemory(tmp_path, "model")).calls(counting(asked))(ROWS.view(np.int32).reshape(10, 1))
    assert sum(map(len, asked)) == 30


def test_answers_before_a_failure_are_kept(tmp_path: Path) -> None:
    calls = []

    def breaks(features: np.ndarray) -> np.ndarray:
        calls.append(len(features))
        if len(calls) == 3:
            raise PrerequisiteError("gone")
        return np.zeros(len(features))

    service = Service(batch_size=4, memory=AnswerMemory(tmp_path, "model"))
    with pytest.raises(PrerequisiteError, match="gone"):
        service.calls(breaks)(ROWS)
    service.calls(breaks)(ROWS)
    assert calls == [4, 4, 2, 2]


def test_one_answer_a_record() -> None:
    with pytest.raises(IncompatibleError, match="1 answers to 10 records"):
        Service().calls(lambda _: np.zeros((1, 2)))(ROWS)
    with pytest.raises(ConfigError, match="batch_size"):
        Service(batch_size=0)


class Server(http.server.BaseHTTPRequestHandler):
    """Answers by the first feature; fails with the statuses in `failures` first."""

    failures: ClassVar[list[tuple[int, str | None]]] = []
    requests: ClassVar[list[dict[str, str]]] = []

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["features"]
        Server.requests.append(dict(self.headers))
        status, wait = Server.failures.pop(0) if Server.failures else (200, None)
        self.send_response(status)
        if wait:
            self.send_header("Retry-After", wait)
        self.end_headers()
        answers = {
            "/labels": {"labels": [int(x[0] > 0.5) for x in asked]},
            "/model": {"probabilities": [[x[0], 1 - x[0]] for x in asked]},
        }
        self.wfile.write(json.dumps(answers.get(self.path, {"error": 1})).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def base() -> Iterator[str]:
    Server.failures, Server.requests = [], []
    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_endpoint_answers(base: str) -> None:
    np.testing.assert_allclose(Endpoint(base + "/model")(ROWS), np.column_stack([ROWS, 1 - ROWS]), rtol=1e-6)
    np.testing.assert_array_equal(Endpoint(base + "/labels", labels_only=True)(ROWS), ROWS[:, 0] > 0.5)
    with pytest.raises(PrerequisiteError, match=r"no answer of the form.*probabilities.*it began"):
        Endpoint(base + "/else")(ROWS)
    with pytest.raises(ConfigError, match="must start with http"):
        Endpoint("ftp://x")


def test_passing_errors_are_tried_again_with_growing_pauses(base: str) -> None:
    slept: list[float] = []
    Server.failures = [(503, None), (500, None), (429, "7"), (502, "100000")]
    endpoint = Endpoint(base + "/model", sleep=slept.append)
    assert endpoint(ROWS).shape == (10, 2)
    assert slept == [0.5, 1.0, 7.0, 60.0]
    Server.failures = [(503, None)] * 3
    with pytest.raises(PrerequisiteError, match=r"HTTP 503.*after 3 tries"):
        Endpoint(base + "/model", retries=2, sleep=slept.append)(ROWS)


def test_errors_that_stay_are_told_at_once(base: str) -> None:
    Server.failures = [(401, None)]
    with pytest.raises(PrerequisiteError, match=r"HTTP 401.*at the first try"):
        Endpoint(base + "/model")(ROWS)
    slept: list[float] = []
    with pytest.raises(PrerequisiteError, match=r"no connection.*after 2 tries"):
        Endpoint("http://127.0.0.1:1/", retries=1, sleep=slept.append)(ROWS)
    assert slept == [0.5]


def test_headers_come_from_the_environment_and_are_shown_nowhere(base: str, monkeypatch) -> None:
    monkeypatch.setenv("LEAKGAUGE_TEST_TOKEN", "quite secret")
    endpoint = Endpoint(base + "/model", headers={"Authorization": "Bearer $LEAKGAUGE_TEST_TOKEN"})
    endpoint(ROWS)
    assert Server.requests[-1]["Authorization"] == "Bearer quite secret"
    assert "quite secret" not in repr(endpoint)
    monkeypatch.delenv("LEAKGAUGE_TEST_TOKEN")
    with pytest.raises(PrerequisiteError, match="LEAKGAUGE_TEST_TOKEN is not set"):
        endpoint(ROWS)


def test_a_target_remembers_its_answers_in_the_folder(base: str, tmp_path: Path) -> None:
    data = Rows(ROWS, np.zeros(10, np.int64), tuple(map(str, range(10))), 2)
    options = {"data": data, "device": "cpu", "url": base + "/labels", "labels_only": True, "folder": tmp_path}
    answers = load_target(**options, batch_size=5).log_probabilities(ROWS)
    np.testing.assert_array_equal(answers.argmax(axis=1), ROWS[:, 0] > 0.5)
    assert len(Server.requests) == 2
    np.testing.assert_array_equal(load_target(**options).log_probabilities(ROWS), answers)
    assert len(Server.requests) == 2
    load_target(**options, cache=False).log_probabilities(ROWS)
    assert len(Server.requests) == 3
