"""Two rings in a plane, and six columns of noise by which records are told apart."""

from __future__ import annotations

import numpy as np

from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.data.table import Table, Tabular, position_ids

RECORDS = 400


def rings(spec) -> Table:
    generator = Seeds(1).at("rings").generator()
    labels = np.arange(RECORDS) % 2
    angle = generator.random(RECORDS) * 2 * np.pi
    radius = 1 + labels + 0.3 * generator.standard_normal(RECORDS)
    noise = generator.standard_normal((RECORDS, 6))
    points = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), noise])
    names = ("x", "y", *(f"noise-{i}" for i in range(6)))
    content = Tabular(points, names, np.zeros((RECORDS, 0), np.int32))
    return Table("rings", content, labels.astype(np.int64), ("inner", "outer"), position_ids(RECORDS))
