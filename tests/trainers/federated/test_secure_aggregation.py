from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from leakgauge.audit.errors import ConfigError, IncompatibleError
from leakgauge.audit.seeds import Seeds
from leakgauge.trainers.federated import masks, shamir
from leakgauge.trainers.federated.discrete_gaussian import discrete_gaussian
from leakgauge.trainers.federated.fixed_point import FixedPoint
from leakgauge.trainers.federated.secure_aggregation import SecureSum

pytest.importorskip("cryptography")


def cohort(count: int) -> list[str]:
    return [f"client-{i:04d}" for i in range(count)]


def recoverable(secure: SecureSum, dropped: set[str]) -> bool:
    """Whether enough holders remain for every key that is needed: each survivor's, and each lost neighbour's."""
    alive = {i for i, c in enumerate(secure.clients) if c not in dropped}
    for party in secure._parties:
        left = len(alive & {party.number, *party.neighbours})
        needed = party.number in alive or alive & set(party.neighbours)
        if needed and left < secure.threshold:
            return False
    return True


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_unmasked_sum_is_the_integer_sum_with_dropouts(data):
    count = data.draw(st.integers(2, 9))
    bits = data.draw(st.integers(2, 28))
    dimension = data.draw(st.integers(1, 7))
    neighbours = data.draw(st.sampled_from([None, 2, 4]))
    clients = cohort(count)
    secure = SecureSum(
        clients, dimension, 0.7, bits, seeds=Seeds(data.draw(st.integers(0, 99))), threshold=2, neighbours=neighbours
    )
    largest = secure.grid.largest
    # The extreme values are drawn often: they are where a sum would wrap round.
    units = st.one_of(st.sampled_from([-largest, largest, 0]), st.integers(-largest, largest))
    vectors = {c: np.array(data.draw(st.lists(units, min_size=dimension, max_size=dimension))) for c in clients}
    dropped = data.draw(st.sets(st.sampled_from(clients), max_size=count - 2))
    masked = {c: secure.mask_units(c, vectors[c]) for c in clients if c not in dropped}
    if neighbours is not None and not recoverable(secure, set(dropped)):
        with pytest.raises(IncompatibleError, match="remain"):
            secure.unmask_units(masked, dropped)
        return
    total = secure.unmask_units(masked, dropped)
    assert total.tolist() == sum(vectors[c] for c in masked).tolist()


def test_reals_come_back_within_a_unit_a_client():
    clients = cohort(12)
    secure = SecureSum(clients, 50, 2.0, 20, seeds=Seeds(5))
    generator = Seeds(6).generator()
    vectors = {c: generator.uniform(-2, 2, 50) for c in clients}
    sums = secure.unmask({c: secure.mask(c, vectors[c]) for c in clients})
    assert np.abs(sums - sum(vectors.values())).max() <= len(clients) / secure.grid.scale


def test_distributed_noise_survives_the_sum_exactly():
    clients = cohort(6)
    secure = SecureSum(clients, 40, 1.0, 16, seeds=Seeds(7), headroom=10_000)
    noise = {c: discrete_gaussian(300.0, 40, Seeds(8).at(c).generator()) for c in clients}
    masked = {c: secure.mask_units(c, 5 + noise[c]) for c in clients}
    assert secure.unmask_units(masked).tolist() == (30 + sum(noise.values())).tolist()


@pytest.mark.parametrize("vector", ["zero", "largest"])
def test_a_masked_vector_is_uniform(vector):
    # Chi-square over 256 values of each of the four bytes, at 1e-6 / 4 each: false-failure rate 1e-6 a case.
    clients = cohort(3)
    secure = SecureSum(clients, 100_000, 1.0, 16, seeds=Seeds(9).at(vector))
    masked = secure.mask(clients[1], np.full(100_000, 0.0 if vector == "zero" else 1.0))
    for byte in range(4):
        counts = np.bincount((masked >> (8 * byte)) & 0xFF, minlength=256)
        assert stats.chisquare(counts).pvalue > 2.5e-7


def test_all_masked_vectors_but_one_are_independent_of_the_data():
    # Correlation of masked vectors with each other and with the data, t test at 1e-6 over 9 pairs.
    clients = cohort(3)
    secure = SecureSum(clients, 50_000, 1.0, 24, seeds=Seeds(10))
    data = {c: Seeds(11).at(c).generator().uniform(-1, 1, 50_000) for c in clients}
    masked = {c: secure.mask(c, data[c]).astype(float) for c in clients}
    pairs = [(masked[a], data[b]) for a in clients for b in clients]
    pairs += [(masked[a], masked[b]) for a in clients for b in clients if a < b]
    assert min(stats.pearsonr(*p).pvalue for p in pairs) > 1e-6 / len(pairs)


def test_the_same_vector_masks_to_other_words_each_round():
    clients, vector = cohort(4), np.zeros(1000)
    first, second = (
        SecureSum(clients, 1000, 1.0, 16, seeds=Seeds(12).at("round", r)).mask(clients[0], vector) for r in (1, 2)
    )
    assert (first == second).mean() < 0.01


def test_without_the_dropped_clients_keys_the_sum_is_noise():
    """The check cannot pass by accident: leaving a dropped client's masks in is seen."""
    clients = cohort(5)
    secure = SecureSum(clients, 200, 1.0, 16, seeds=Seeds(13))
    masked = {c: secure.mask(c, np.zeros(200)) for c in clients}
    del masked[clients[2]]
    secure._parties[2].neighbours = ()
    with pytest.raises(IncompatibleError, match="a mask is missing"):
        secure.unmask_units(masked, [clients[2]])


@pytest.mark.parametrize(("count", "bits", "fits"), [(2**15, 16, True), (2**17, 16, False), (3, 31, False)])
def test_a_cohort_whose_sum_does_not_fit_is_refused(count, bits, fits):
    if fits:
        assert FixedPoint(1.0, bits, count).largest == 2**15 - 1
        return
    with pytest.raises(ConfigError, match=r"modulo 2\^32 holds \+-2147483647 only: use at most \d+ bits"):
        FixedPoint(1.0, bits, count)


def test_the_bits_that_the_message_proposes_fit():
    for count in (3, 100, 70_000, 2**29):
        with pytest.raises(ConfigError) as caught:
            FixedPoint(1.0, 32, count)
        proposed = int(str(caught.value).split("at most ")[1].split()[0])
        FixedPoint(1.0, proposed, count)
        if proposed < 31:
            with pytest.raises(ConfigError):
                FixedPoint(1.0, proposed + 1, count)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_rounding_never_lengthens_a_vector(values):
    grid = FixedPoint(1.0, 20, 10)
    vector = np.array(values)
    assert np.linalg.norm(grid.encode(vector)) <= np.linalg.norm(vector * grid.scale) * (1 + 1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5])
def test_vectors_out_of_range_are_refused(bad):
    secure = SecureSum(cohort(3), 2, 1.0, 16, seeds=Seeds(14))
    with pytest.raises(ConfigError, match="fixed point"):
        secure.mask("client-0000", np.array([0.0, bad]))


def test_noise_beyond_the_headroom_is_refused():
    secure = SecureSum(cohort(3), 1, 1.0, 16, seeds=Seeds(15), headroom=10)
    with pytest.raises(IncompatibleError, match="raise headroom or lower bits"):
        secure.mask_units("client-0000", np.array([secure.grid.largest + 11]))


def test_too_many_dropouts_cannot_be_unmasked():
    clients = cohort(9)
    secure = SecureSum(clients, 3, 1.0, 16, seeds=Seeds(16))
    masked = {c: secure.mask(c, np.zeros(3)) for c in clients[:6]}
    with pytest.raises(IncompatibleError, match=r"6 of the clients that hold shares .* 7 are needed"):
        secure.unmask(masked, clients[6:])


def test_misuse_is_refused():
    clients = cohort(3)
    secure = SecureSum(clients, 2, 1.0, 16, seeds=Seeds(17))
    masked = {clients[0]: secure.mask(clients[0], np.zeros(2))}
    with pytest.raises(IncompatibleError, match="has masked a vector"):
        secure.mask(clients[0], np.zeros(2))
    with pytest.raises(ConfigError, match="none of the 3 clients"):
        secure.mask("stranger", np.zeros(2))
    with pytest.raises(IncompatibleError, match="shape"):
        secure.mask(clients[1], np.zeros(3))
    with pytest.raises(ConfigError, match="unaccounted"):
        secure.unmask(masked)
    with pytest.raises(ConfigError, match="the sum of one client is its update"):
        SecureSum(["alone"], 2, 1.0, 16, seeds=Seeds(0))
    with pytest.raises(ConfigError, match="threshold"):
        SecureSum(clients, 2, 1.0, 16, seeds=Seeds(0), threshold=4)
    with pytest.raises(ConfigError, match="even number"):
        SecureSum(cohort(9), 2, 1.0, 16, seeds=Seeds(0), neighbours=3)


@given(st.integers(0, 2**256 - 1), st.integers(1, 6), st.data())
@settings(max_examples=50, deadline=None)
def test_any_threshold_of_shares_gives_the_secret(secret, threshold, data):
    holders = data.draw(st.lists(st.integers(1, 1000), min_size=threshold, max_size=9, unique=True))
    shares = shamir.split(secret, holders, threshold, generator=Seeds(18).generator())
    chosen = data.draw(st.permutations(holders))[:threshold]
    assert shamir.combine({h: shares[h] for h in chosen}, threshold) == secret
    with pytest.raises(IncompatibleError):
        shamir.combine({h: shares[h] for h in chosen[1:]}, threshold)


def test_fewer_shares_say_nothing():
    """With one share short every secret is possible: for each there is a polynomial through the shares held."""
    shares = shamir.split(42, [1, 2, 3], 3, generator=Seeds(19).generator())
    for other in (0, 7, 2**255):
        # The third share that would make the secret `other`, from Lagrange at 3 through (0, other), 1 and 2.
        third = (other + 3 * shares[2] - 3 * shares[1]) % shamir.PRIME
        assert shamir.combine({1: shares[1], 2: shares[2], 3: third}, 3) == other


def test_both_ends_agree_on_a_key_and_no_third_does():
    ours, theirs, stranger = (masks.secret_bytes(Seeds(20).at(i)) for i in range(3))
    assert masks.agree(ours, masks.public_key(theirs)) == masks.agree(theirs, masks.public_key(ours))
    assert masks.agree(stranger, masks.public_key(ours)) != masks.agree(theirs, masks.public_key(ours))


def test_same_seeds_same_bytes():
    first, second = (SecureSum(cohort(4), 9, 1.0, 16, seeds=Seeds(21)).mask("client-0002", np.ones(9)) for _ in "ab")
    assert first.tobytes() == second.tobytes()


def test_a_large_cohort_with_few_neighbours_each_sums_exactly():
    clients = cohort(60)
    secure = SecureSum(clients, 11, 1.0, 20, seeds=Seeds(22), neighbours=10, threshold=3)
    vectors = {c: Seeds(23).at(c).generator().integers(-(2**18), 2**18, size=11) for c in clients}
    masked = {c: secure.mask_units(c, vectors[c]) for c in clients[12:]}
    expected = sum(vectors[c] for c in clients[12:])
    assert secure.unmask_units(masked, clients[:12]).tolist() == expected.tolist()
