from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from leakgauge.audit.errors import PrerequisiteError, StaleArtifactError
from leakgauge.benchmarks.peers import exchange, install
from leakgauge.benchmarks.peers.attacks import peer_attack_table
from leakgauge.benchmarks.peers.coverage import PEER_CALLS
from leakgauge.benchmarks.peers.exchange import Peers
from leakgauge.benchmarks.peers.worker import bounds as worker_bounds
from leakgauge.benchmarks.peers.worker import main as worker_main
from leakgauge.benchmarks.peers.worker.attacks import peer_attacks

WORKER = Path(worker_main.__file__).parent
ARRAYS = {"null_scores": np.arange(6.0).reshape(2, 3), "null_inside": np.array([[True, False, True]] * 2)}
REQUEST = {"design": {}, "calls": {"null": {"a": 2, "b": 1}}}

HONEST = """
import json
import numpy as np

def main(arguments):
    task, request, arrays, reply = arguments
    request = json.load(open(request))
    arrays = np.load(arrays, allow_pickle=False)
    rows = []
    for fixture, calls in request["calls"].items():
        for call, trials in calls.items():
            values = [float(v) for v in arrays[fixture + "_scores"][:trials].sum(axis=1)]
            if call == "b":
                values = ["inf"] * trials
            rows.append(dict(call=call, fixture=fixture, values=values, seconds=0.5, error=""))
    json.dump({"rows": rows, "versions": {"numpy": np.__version__}}, open(reply, "w"))
    return 0
"""


@pytest.fixture
def stub(tmp_path):
    """Peers whose worker is the given source, run by this interpreter."""

    def make(source):
        (tmp_path / "worker").mkdir()
        (tmp_path / "worker" / "__init__.py").write_text("")
        (tmp_path / "worker" / "main.py").write_text(source)
        return Peers(Path(sys.executable), tmp_path)

    return make


def test_arrays_go_over_and_answers_come_back(stub, capfd):
    chatty = "import sys\n" + HONEST.replace(
        "rows = []", "rows = []; print('noise'); print('progress: call a', file=sys.stderr)"
    )
    outcomes, versions = stub(chatty).bounds(REQUEST, ARRAYS)
    assert capfd.readouterr().out == "  call a\n"
    assert [(o.call, o.fixture, o.values, o.seconds) for o in outcomes] == [
        ("a", "null", (3.0, 12.0), 0.5),
        ("b", "null", (float("inf"),), 0.5),
    ]
    assert versions == {"numpy": np.__version__}


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("    rows = []", "    raise SystemExit('no sklearn')", PrerequisiteError, "no sklearn.*--install"),
        ("return 0", "return 3", PrerequisiteError, "code 3"),
        ('{"rows": rows', '{"rows": rows[1:]', StaleArtifactError, "missing.*'a'"),
        ('{"rows": rows', '{"rows": rows + rows', StaleArtifactError, "2 rows asked, 4 answered"),
        ("[:trials].sum", "[:1].sum", StaleArtifactError, "answered 1 trials of 2"),
        ("json.dump({", "open(reply, 'w').write('nonsense') or print({", StaleArtifactError, "no JSON"),
        ('json.dump({"rows": rows', 'json.dump({"lines": rows', StaleArtifactError, "cannot be read.*rows"),
        ("seconds=0.5", "seconds='fast'", StaleArtifactError, "cannot be read"),
    ],
)
def test_a_broken_answer_is_one_clear_error(stub, old, new, error, message):
    with pytest.raises(error, match=message):
        stub(HONEST.replace(old, new)).bounds(REQUEST, ARRAYS)


def test_without_the_environment_the_error_says_how_to_make_it(monkeypatch, tmp_path):
    monkeypatch.setenv("LEAKGAUGE_PEERS", str(tmp_path / "none"))
    with pytest.raises(PrerequisiteError) as raised:
        Peers.find()
    text = str(raised.value)
    assert "\n" not in text
    assert str(tmp_path / "none") in text
    assert "python -m leakgauge.benchmarks.peers --install" in text


def test_the_environment_is_found_where_the_variable_says(monkeypatch, tmp_path):
    python = tmp_path / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    python.parent.mkdir()
    python.touch()
    monkeypatch.setenv("LEAKGAUGE_PEERS", str(tmp_path))
    assert Peers.find().interpreter == python
    monkeypatch.delenv("LEAKGAUGE_PEERS")
    assert install.environment_folder() == Path(".peers")


def test_every_package_installed_is_pinned():
    lines = install.CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines if line and line[0] != "#"}
    assert all("==" in line or line.startswith("#") for line in lines if line)
    assert {*install.TORCH, *install.LIBRARIES, *install.WITHOUT_DEPENDENCIES} <= pinned
    assert not any("@" in line or "/" in line for line in lines)  # PyPI only: no addresses, no paths


def test_install_runs_three_pip_commands_and_ignores_its_folder(monkeypatch, tmp_path):
    ran = []

    class Done:
        returncode = 0

    monkeypatch.setattr(install.venv, "create", lambda folder, with_pip: folder.mkdir())
    monkeypatch.setattr(install.subprocess, "run", lambda command, check: ran.append(command) or Done())
    install.install(tmp_path / "peers")
    assert [command[-1] for command in ran] == ["torch", "privacy-estimates", "tensorflow-empirical-privacy"]
    assert (tmp_path / "peers" / ".gitignore").read_text() == "*\n"
    Done.returncode = 1
    with pytest.raises(PrerequisiteError, match="pip failed"):
        install.install(tmp_path / "again")


def test_the_worker_imports_nothing_of_ours():
    for path in WORKER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{path.name} imports from {'.' * node.level}{node.module}"
                assert not (node.module or "").startswith("leakgauge")
            if isinstance(node, ast.Import):
                assert not any(a.name.startswith("leakgauge") for a in node.names)


def test_the_worker_refuses_pickled_arrays(tmp_path):
    np.savez(tmp_path / "arrays.npz", scores=np.array([{"a": 1}], dtype=object))
    (tmp_path / "request.json").write_text("{}")
    with pytest.raises(ValueError, match="allow_pickle"):
        worker_main.main(["bounds", *(str(tmp_path / n) for n in ("request.json", "arrays.npz", "reply.json"))])


def test_the_worker_times_each_call_and_records_a_failed_one(monkeypatch, tmp_path):
    def fails(members, others):
        raise ImportError("no such peer")

    calls = {"mean": lambda members, others: members.mean() - others.mean(), "infinite": lambda m, o: -np.inf}
    monkeypatch.setattr(worker_bounds, "peer_calls", lambda design: {**calls, "fails": fails})
    request = {"design": {}, "calls": {"null": {"mean": 2, "infinite": 1, "fails": 2}}}
    (tmp_path / "request.json").write_text(json.dumps(request))
    np.savez(tmp_path / "arrays.npz", **ARRAYS)
    paths = [str(tmp_path / n) for n in ("request.json", "arrays.npz", "reply.json")]
    assert worker_main.main(["bounds", *paths]) == 0
    reply = json.loads((tmp_path / "reply.json").read_text())
    rows = {row["call"]: row for row in reply["rows"]}
    assert rows["mean"]["values"] == [0.0, 0.0]  # members 0 and 2 against 1, then 3 and 5 against 4
    assert rows["infinite"]["values"] == ["-inf"]
    assert rows["fails"]["error"] == "ImportError: no such peer"
    assert reply["versions"]["numpy"] == np.__version__


def test_worker_and_tables_know_the_same_attacks():
    assert set(peer_attacks()) == set(peer_attack_table())


@pytest.mark.slow
def test_the_real_peers_answer_every_call(monkeypatch):
    folder = Path(exchange.__file__).resolve().parents[2] / ".peers"
    monkeypatch.setenv("LEAKGAUGE_PEERS", str(folder))
    try:
        peers = Peers.find()
    except PrerequisiteError:
        pytest.skip("peers venv absent")
    generator = np.random.default_rng(0)
    inside = generator.random((1, 400)) < 0.5
    arrays = {"laplace_scores": inside + generator.laplace(size=(1, 400)), "laplace_inside": inside}
    request = {"design": {"threshold": 0.9, "one_sided_threshold": 0.95}}
    outcomes, _ = peers.bounds({**request, "calls": {"laplace": dict.fromkeys(PEER_CALLS, 1)}}, arrays)
    assert {o.call: o.error for o in outcomes if o.error} == {}
