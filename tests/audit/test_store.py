"""The store: complete or absent, verified, and able to say why something was not reused."""

from __future__ import annotations

import pytest

from leakgauge.audit.errors import ConfigError
from leakgauge.audit.store import Store, digest


def put(store: Store, inputs: dict, text: str = "weights") -> str:
    key = digest(inputs)
    with store.writing("models", key, inputs) as folder:
        (folder / "model.txt").write_text(text)
    return key


def test_an_entry_is_there_after_writing_and_not_before(tmp_path):
    store = Store(tmp_path)
    inputs = {"a": 1}
    assert not store.has("models", digest(inputs))
    key = put(store, inputs)
    assert Store(tmp_path).has("models", key)


def test_a_write_that_fails_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.writing("models", "k", {}):
        raise RuntimeError("killed")
    assert not store.has("models", "k")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("damage", ["change", "remove", "no-done"])
def test_a_damaged_entry_is_not_used(tmp_path, damage):
    key = put(Store(tmp_path), {"a": 1})
    folder = tmp_path / "models" / key
    if damage == "change":
        (folder / "model.txt").write_text("other")
    elif damage == "remove":
        (folder / "model.txt").unlink()
    else:
        (folder / "done.json").unlink()
    assert not Store(tmp_path).has("models", key)
    put(Store(tmp_path), {"a": 1})
    assert Store(tmp_path).has("models", key)


def test_order_of_ids_is_part_of_the_key_and_dictionary_order_is_not():
    assert digest({"ids": ["a", "b"]}) != digest({"ids": ["b", "a"]})
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1})


def test_explain_names_the_fields_that_differ_from_the_nearest_entry(tmp_path):
    store = Store(tmp_path)
    put(store, {"trainer": {"spec": {"lr": 0.1, "epochs": 3}}, "data": "d1"})
    put(store, {"trainer": {"spec": {"lr": 9.0, "epochs": 9}}, "data": "d9"})
    key = put(store, {"trainer": {"spec": {"lr": 0.2, "epochs": 3}}, "data": "d1"})
    _, differences = store.explain(key[:10])
    assert [(d.field, d.here, d.there) for d in differences] == [("trainer.spec.lr", 0.2, 0.1)]


def test_an_unknown_key_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="0 entries"):
        Store(tmp_path).find("abc")


def test_collect_keeps_what_it_is_told(tmp_path):
    store = Store(tmp_path)
    kept, dropped = put(store, {"a": 1}), put(store, {"a": 2})
    assert store.collect({kept}) > 0
    assert Store(tmp_path).has("models", kept)
    assert not Store(tmp_path).has("models", dropped)
