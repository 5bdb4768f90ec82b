"""Anybody's strategy under the recorder: nothing changes for it, and its transcript can be audited."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

if importlib.util.find_spec("flwr") is None:
    pytest.skip("flwr is not installed: pip install 'leakgauge[flower]'", allow_module_level=True)

from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg, FedAvgM, FedMedian

from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.audit.transcript_audit import audit_transcript
from leakgauge.audit.types import Adjacency, Claim, Unit, Verdict
from leakgauge.trainers.federated.views import load_transcript
from leakgauge.trainers.flower.canaries import CanaryPlan, Directions
from leakgauge.trainers.flower.grid import InProcessGrid
from leakgauge.trainers.flower.growing import GrowingArray
from leakgauge.trainers.flower.recorder import Recorder

NODES, SHAPE = 4, (60, 10)


def users_client_app():
    """Each client moves the weights by its node id / 100 and counts one step in an integer buffer."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        arrays = {k: a.numpy() for k, a in message.content["arrays"].items()}
        moved = {"w": arrays["w"] + np.float32(context.node_id / 100), "steps": np.asarray(arrays["steps"] + 1)}
        record = ArrayRecord({k: Array(v) for k, v in moved.items()})
        metrics = MetricRecord({"num-examples": 10 * context.node_id, "loss": 0.5})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)

    return app


def start_arrays():
    return ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32)), "steps": Array(np.array(0))})


def train(strategy, rounds=3, alive=lambda _: True):
    grid = InProcessGrid(users_client_app(), {i + 1: {} for i in range(NODES)}, alive=alive)
    return strategy.start(grid, start_arrays(), num_rounds=rounds)


def fedavg(kind=FedAvg, **options):
    return kind(fraction_evaluate=0.0, **options)


@pytest.mark.parametrize("kind", [FedAvg, FedAvgM, FedMedian])
def test_the_strategy_does_what_it_did_before(kind, tmp_path):
    plain, recorded = train(fedavg(kind)), train(Recorder(fedavg(kind), tmp_path, view="updates"))
    assert np.allclose(plain.arrays["w"].numpy(), recorded.arrays["w"].numpy(), atol=1e-6)
    assert plain.train_metrics_clientapp.keys() == recorded.train_metrics_clientapp.keys()


def test_the_transcript_holds_models_and_updates_by_round(tmp_path):
    train(Recorder(fedavg(), tmp_path, view="updates"))
    seen = load_transcript(tmp_path)
    assert seen["models"].shape == (4, 600)
    assert not seen["models"][0].any()
    assert sorted(seen["clients"]) == ["1", "2", "3", "4"]
    for update, client, examples in zip(seen["updates"], seen["update_clients"], seen["update_examples"], strict=True):
        node = int(seen["clients"][client])
        assert np.allclose(update, node / 100, atol=1e-6)
        assert examples == 10 * node
    # FedAvg's own formula, from the recorded updates: weights 1/10 .. 4/10.
    here = seen["update_rounds"] == 1
    weights = seen["update_examples"][here] / seen["update_examples"][here].sum()
    moved = weights @ seen["updates"][here]
    assert np.allclose(seen["models"][2] - seen["models"][1], moved, atol=1e-6)


def test_what_an_outsider_sees_has_no_updates(tmp_path):
    train(Recorder(fedavg(), tmp_path))
    assert set(load_transcript(tmp_path)) == {"view", "clients", "models"}


def test_further_attributes_are_the_strategys_own(tmp_path):
    recorder = Recorder(DifferentialPrivacyServerSideFixedClipping(fedavg(), 1.0, 2.0, 4), tmp_path)
    assert recorder.clipping_norm == 2.0
    with pytest.raises(AttributeError):
        _ = recorder.nonsense


def test_a_strategy_with_a_start_of_its_own_is_recorded_too(tmp_path):
    class Custom(FedAvg):
        started = 0

        def start(self, grid, initial_arrays, num_rounds=1, **rest):
            self._note()
            return super().start(grid, initial_arrays, num_rounds, **rest)

        def _note(self):
            type(self).started += 1

    class Plain(Custom):
        def start(self, grid, initial_arrays, num_rounds=1, **rest):
            self._note()
            return FedAvg.start(self, grid, initial_arrays, num_rounds, **rest)

    train(Recorder(Plain(fraction_evaluate=0.0), tmp_path))
    assert Plain.started == 1
    assert len(load_transcript(tmp_path)["models"]) == 4


def test_a_run_that_dies_keeps_its_finished_rounds(tmp_path):
    class Dies(FedAvg):
        def aggregate_train(self, server_round, replies):
            if server_round == 3:
                raise MemoryError
            return super().aggregate_train(server_round, replies)

    plan = CanaryPlan(50, clip=1.0)
    with pytest.raises(MemoryError):
        train(Recorder(Dies(fraction_evaluate=0.0), tmp_path, view="updates", canaries=plan), rounds=5)
    seen = load_transcript(tmp_path)
    assert len(seen["models"]) == 3
    assert len(seen["updates"]) == 2 * NODES
    assert audit_transcript(tmp_path).bounds[0].epsilon > 1


def test_a_node_that_dies_mid_run_does_not_lose_the_audit(tmp_path):
    calls = {"n": 0}

    def alive(node):
        calls["n"] += node == 2
        return node != 2 or calls["n"] <= 1

    train(Recorder(fedavg(), tmp_path, view="updates", canaries=CanaryPlan(50, clip=1.0)), alive=alive)
    seen = load_transcript(tmp_path)
    assert len(seen["updates"]) == 3 * NODES - 2
    assert audit_transcript(tmp_path).bounds[0].epsilon > 1


def test_a_folder_is_not_overwritten(tmp_path):
    train(Recorder(fedavg(), tmp_path))
    with pytest.raises(ConfigError, match="holds a transcript already"):
        train(Recorder(fedavg(), tmp_path))


def audited(tmp_path, noise, claim, *, rounds=5, count=400):
    strategy = DifferentialPrivacyServerSideFixedClipping(fedavg(), noise, 1.0, NODES + count)
    plan = CanaryPlan(count, clip=1.0, absent="zero")
    with Seeds(1).at("flower").numpy_scope():
        train(Recorder(strategy, tmp_path, canaries=plan, seed=2), rounds=rounds)
    return audit_transcript(tmp_path, claim=claim)


def zero_out(epsilon):
    return Claim(epsilon, 1e-5, Unit.CLIENT, Adjacency.ZERO_OUT)


def test_an_unprotected_app_reaches_the_ceiling_and_violates_its_claim(tmp_path):
    audit = audited(tmp_path, 0.0, zero_out(1.0))
    assert audit.bounds[0].epsilon == pytest.approx(audit.bounds[0].ceiling)
    assert audit.judgement.verdict is Verdict.VIOLATED


def test_a_protected_app_does_not(tmp_path):
    # Five releases at noise 5: epsilon about 2.0; the one-run bound at 0.999 is above it with probability 1e-3.
    audit = audited(tmp_path, 5.0, zero_out(2.0))
    assert audit.judgement.verdict is not Verdict.VIOLATED
    assert audit.judged.epsilon < 2.0


def test_projections_are_in_units_of_one_canary(tmp_path):
    """Without noise and sampling, a canary inside moves its projection by 1 and one outside not at all."""
    train(Recorder(fedavg(), tmp_path, canaries=CanaryPlan(100, clip=1.0, strength=1.0, absent="zero")), rounds=2)
    inside = np.array(json.loads((tmp_path / "canaries.json").read_text())["inside"], bool)
    for row in np.load(tmp_path / "projections.npy"):
        # The real clients' common move has a small component along each direction.
        assert np.median(row[inside]) == pytest.approx(1.0, abs=0.2)
        assert abs(np.median(row[~inside])) < 0.2


def test_directions_are_orthogonal_and_projections_their_inner_products():
    plan = CanaryPlan(20, clip=1.0)
    directions = Directions.draw(plan, 130, seeds=Seeds(3))
    matrix = np.array([directions.update(i, 1.0) for i in range(20)])
    assert np.allclose(matrix @ matrix.T, np.eye(20), atol=1e-6)
    vector = Seeds(4).generator().normal(size=130)
    assert np.allclose(directions.project(vector), matrix @ vector, atol=1e-5)


def test_the_transcript_tells_no_coin(tmp_path):
    train(Recorder(fedavg(), tmp_path, canaries=CanaryPlan(50, clip=1.0)))
    assert "inside" not in (tmp_path / "transcript.json").read_text()


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no transcript\.json"):
        audit_transcript(tmp_path)
    train(Recorder(fedavg(), tmp_path / "plain"))
    with pytest.raises(ConfigError, match="has no canaries"):
        audit_transcript(tmp_path / "plain")
    train(Recorder(fedavg(), tmp_path / "canaries", canaries=CanaryPlan(50, clip=1.0)))
    with pytest.raises(IncompatibleError, match="one record"):
        audit_transcript(tmp_path / "canaries", claim=Claim(1.0, 1e-5))
    with pytest.raises(ConfigError, match="view"):
        Recorder(fedavg(), tmp_path, view="sum")
    with pytest.raises(ConfigError, match="at least 10"):
        CanaryPlan(9, clip=1.0)
    with pytest.raises(ConfigError, match="use fewer canaries"):
        Directions.draw(CanaryPlan(50, clip=1.0), 49, seeds=Seeds(0))


def test_growing_arrays_are_readable_at_every_flush_and_continue(tmp_path):
    file = GrowingArray(tmp_path / "a.npy", (3,), "<f4")
    assert np.load(tmp_path / "a.npy").shape == (0, 3)
    for count in range(1, 12):
        file.append(np.full((1, 3), count))
        file.flush()
        assert np.load(tmp_path / "a.npy", mmap_mode="r")[-1].tolist() == [count] * 3
    file.close()
    again = GrowingArray(tmp_path / "a.npy", (3,), "<f4", keep=4)
    again.append(np.zeros((1, 3)))
    again.close()
    assert np.load(tmp_path / "a.npy")[:, 0].tolist() == [1, 2, 3, 4, 0]
