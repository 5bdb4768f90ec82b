"""Games that train models of their own, two at a time: a second process plays what this one has not yet begun.

Outcomes meet in the store, so that nothing depends on who played: each game is played on one thread of the CPU, from
its own seeds. If the second process fails, this one simply finds more left to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from .bank import Bank, unprotected_twin
from .config import parse_config
from .execution import executor_named
from .plan import planned_claim
from .played import play, played_key, trains_alone
from .progress import Reporter
from .setting import Setting, settle
from .store import Store
from .types import PrivateTrainer

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
HELPER = "import sys; sys.path[:] = {path!r}; from leakgauge.audit.plays import help_play; help_play(sys.stdin)"


@dataclass(frozen=True, slots=True)
class Play:
    """One game against one trainer, or against its unprotected twin."""

    trainer: str
    attack: str
    twin: bool

    @property
    def label(self) -> str:
        """As progress names it."""
        return f"{self.trainer} unprotected twin" if self.twin else self.trainer


def play_ahead(setting: Setting, bank: Bank) -> None:
    """Play every game that trains its own models and that the store lacks, with a second process where there are two
    such games and two cores. What fails here is left to be played again, where its error becomes a finding."""
    open_plays = [p for p in plays(setting) if not bank.store.has("games", _key(setting, bank, p))]
    if len(open_plays) < 2 or bank.device != "cpu" or getattr(bank.executor, "workers", 1) < 2:
        return
    claims = bank.store.root / "tmp" / f"plays-{os.getpid()}"
    claims.mkdir(parents=True, exist_ok=True)
    helper = _start(setting, open_plays, bank.store.root, claims)
    try:
        with contextlib.suppress(Exception):
            _work_off(setting, bank, open_plays, claims)
        bank.reporter.say("  a second process plays the rest")
        with bank.reporter.step("attack"):
            helper.wait()
    finally:
        helper.kill()
        helper.wait()
        shutil.rmtree(claims, ignore_errors=True)


def plays(setting: Setting) -> list[Play]:
    """What may be played ahead, the longest first: private training costs most, then its twin's."""
    out = []
    for identity, trainer in setting.trainers.items():
        for name in setting.attacks_on(identity):
            if trains_alone(setting.attacks[name]):
                out += [Play(identity, name, twin) for twin in (False, True)[: 1 + isinstance(trainer, PrivateTrainer)]]
    return sorted(out, key=lambda p: (not isinstance(setting.trainers[p.trainer], PrivateTrainer), p.twin))


def help_play(stream: TextIO) -> None:
    """What the second process does: read one line that says what there is to play, and play what nobody has begun. The
    stream ends when the first process does, and then this one does too."""
    order = json.loads(stream.readline())
    threading.Thread(target=_die_with_parent, args=(stream,), daemon=True).start()
    setting = settle(parse_config(order["config"]))
    material = setting.material
    store, runs = Store(Path(order["store"])), executor_named("local", lambda _: None)
    bank = Bank(store, material.universe, material.queried(), "cpu", Reporter(quiet=True), runs)
    _work_off(setting, bank, [Play(**p) for p in order["plays"]], Path(order["claims"]))


def _work_off(setting: Setting, bank: Bank, open_plays: list[Play], claims: Path) -> None:
    for number, each in enumerate(open_plays):
        try:
            (claims / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        _play(setting, bank, each)


def _play(setting: Setting, bank: Bank, each: Play) -> None:
    trainer = _trainer(setting, each)
    claim = None if each.twin else planned_claim(setting, trainer)
    play(setting, bank, trainer, each.attack, claim, each.label)


def _trainer(setting: Setting, each: Play) -> Any:
    trainer = setting.trainers[each.trainer]
    return unprotected_twin(trainer) if each.twin else trainer


def _key(setting: Setting, bank: Bank, each: Play) -> str:
    return played_key(setting, bank, _trainer(setting, each), each.attack)[0]


def _start(setting: Setting, open_plays: list[Play], store: Path, claims: Path) -> subprocess.Popen[str]:
    order = {
        "config": setting.config.model_dump(mode="json", exclude_unset=True),
        "store": str(store),
        "claims": str(claims),
        "plays": [asdict(each) for each in open_plays],
    }
    # Not multiprocessing: that would run the caller's main module again. A session of its own does not hear the Ctrl-C
    # that this process answers by ending it.
    helper = subprocess.Popen(
        [sys.executable, "-c", HELPER.format(path=sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **THREADS},
        start_new_session=True,
        text=True,
    )
    assert helper.stdin is not None
    with contextlib.suppress(OSError):
        helper.stdin.write(json.dumps(order) + "\n")
        helper.stdin.flush()
    return helper


def _die_with_parent(stream: TextIO) -> None:
    stream.read()
    os._exit(1)
