from __future__ import annotations

import numpy as np

from leakgauge.trainers.data import DataSpec, load_table


def test_public_and_private_prose_share_no_topic_and_make_up_the_whole():
    whole, public, private = (
        load_table(DataSpec(seed=0, name=name, text_length=100)) for name in ("prose", "prose-public", "prose-private")
    )
    assert not set(public.groups or ()) & set(private.groups or ())
    assert sorted((*public.records, *private.records)) == sorted(whole.records)
    assert 0.2 < len(public.records) / len(whole.records) < 0.5
    where = {record: n for n, record in enumerate(whole.records)}
    for part in (public, private):
        assert [whole.content.values[where[r]] for r in part.records] == list(part.content.values)
        assert np.all(part.labels == 0)
