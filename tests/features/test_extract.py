"""Extraction end to end on small stores, against figures computed directly from all activations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from interp.capture.tables import open_table
from interp.errors import ConfigError, UnknownName
from interp.features import (
    ExtractConfig,
    Units,
    extract,
    find_bases,
    neurons,
    open_units,
    random_directions,
)
from interp.features.bases import DictionaryBasis
from interp.sae import Dictionary, Origin, TopK, save_dictionary
from interp.store import ActivationStore, Site
from interp.store.imports import import_activations
from interp.workspace import Workspace
from tests.stores import make_store

SITE = "resid_post.0"
SMALL = ExtractConfig(contexts=3, before=4, after=2, reservoir=16, shifts=8, batch=100)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    """A signed and a non-negative site, with sinks."""
    draw = np.random.default_rng(5)
    rows = 1000
    sinks = np.zeros(rows, bool)
    sinks[::97] = True
    x = draw.normal(size=(rows, 12)).astype(np.float16)
    x[sinks] = 200
    activations = {SITE: x, "mlp_post.0": np.maximum(x[:, :8], 0)}
    path = tmp_path_factory.mktemp("stores") / "toy"
    return make_store(path, activations=activations, sinks=sinks, documents=9)


def a_dictionary(k: int = 3, latents: int = 40, seed: int = 0) -> Dictionary:
    """Random weights; latent 7 is dead."""
    origin = Origin(model="toy", site=SITE, store="toy", store_digest="0" * 64)
    dictionary = TopK(k=k, latents=latents).dictionary(12, origin)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        dictionary.W_dec.copy_(torch.randn(latents, 12, generator=draw))
        dictionary.W_dec /= dictionary.W_dec.norm(dim=1, keepdim=True)
        dictionary.W_enc.copy_(dictionary.W_dec.T)
        dictionary.b_enc[7] = -1e6
    return dictionary.eval().requires_grad_(False)


class Lens:
    """A model whose unembedding is known."""

    name, digest = "toy", "1" * 64

    def __init__(self) -> None:
        self.matrix = torch.randn(12, 14, generator=torch.Generator().manual_seed(1))

    def write_directions(
        self, site: Site, directions: Float[Tensor, "n w"]
    ) -> Float[Tensor, "n w"] | None:
        return directions if site.name == SITE else None

    def logit_lens(self, residual: Float[Tensor, "n w"]) -> Float[Tensor, "n v"]:
        return residual @ self.matrix


@pytest.fixture(scope="module")
def units(store: ActivationStore, tmp_path_factory: pytest.TempPathFactory) -> Units:
    """Neurons, random directions and a dictionary, extracted in one go."""
    bases = [neurons(store, SITE), random_directions(store, SITE, n=20), a_dictionary()]
    out = tmp_path_factory.mktemp("out")
    return extract(bases, store, model=Lens(), config=SMALL, out=out)


def activations(store: ActivationStore, basis: str) -> np.ndarray:
    """All activations of a basis, sinks zero."""
    made = {
        "neurons": neurons(store, SITE),
        "random": random_directions(store, SITE, n=20),
    }.get(basis) or DictionaryBasis(a_dictionary())
    z = made.encode(torch.from_numpy(store.read(SITE, 0, store.rows))).numpy()
    z[store.sinks] = 0
    return z


@pytest.mark.parametrize("number", [0, 1, 2])
def test_statistics_equal_direct_ones(units: Units, store: ActivationStore, number: int) -> None:
    table = units.tables[number]
    z = activations(store, table.basis)
    live = z[~store.sinks]
    columns = table.columns
    np.testing.assert_array_equal(columns["active"], (live > 0).sum(axis=0))
    np.testing.assert_allclose(columns["density"], (live > 0).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(columns["mean"], live.mean(axis=0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(columns["std"], live.std(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(columns["max"], live.max(axis=0), rtol=1e-6)
    domain = np.array([d.domain for d in store.documents])[store.document_index]
    for unit in range(0, table.n_units, 5):
        counts, edges = table.histogram(unit)
        values = live[:, unit][live[:, unit] > 0]
        np.testing.assert_array_equal(counts, np.histogram(values, edges)[0])
        for name, share in table.domains(unit).items():
            expected = z[domain == name, unit].sum() / z[:, unit].sum()
            assert share == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_contexts_are_true_and_lie_in_their_strata(
    units: Units, store: ActivationStore, number: int
) -> None:
    table = units.tables[number]
    z = activations(store, table.basis)
    for unit in range(table.n_units):
        values = np.sort(z[:, unit][z[:, unit] > 0])[::-1]
        strata = table.contexts(unit)
        shown = np.concatenate([stratum.rows for stratum in strata])
        assert len(shown) == len(np.unique(shown))
        assert len(strata[0].rows) == min(SMALL.contexts, len(values))
        for number_of, stratum in enumerate(strata):
            np.testing.assert_allclose(stratum.values, z[stratum.rows, unit], rtol=1e-5)
            if number_of and len(stratum.rows):
                rank = np.searchsorted(-values, -stratum.values, side="left") / len(values)
                low, high = [(0, 0.01), (0.01, 0.1), (0.1, 0.5), (0.5, 1)][number_of - 1]
                # Edges come from a histogram with four bins an octave.
                assert np.all(rank >= low - 0.06)
                assert np.all(rank <= high + 0.06)
            for row, window in zip(stratum.rows, stratum.windows, strict=True):
                for step in range(-SMALL.before, SMALL.after + 1):
                    near = row + step
                    inside = 0 <= near < store.rows and (
                        store.document_index[near] == store.document_index[row]
                    )
                    expected = z[near, unit] if inside else 0
                    assert window[step + SMALL.before] == pytest.approx(expected, rel=2e-3)


def test_top_contexts_come_from_different_documents(units: Units, store: ActivationStore) -> None:
    for unit in range(24):
        rows = units.table("neurons").contexts(unit)[0].rows
        assert len(np.unique(store.document_index[rows])) == len(rows)


def test_dead_units_and_order(units: Units) -> None:
    table = units.tables[2]
    assert table.columns["dead"][7] == 1
    assert np.isnan(table.columns["monosemanticity"][7])
    order = units.column("monosemanticity")
    finite = order[np.isfinite(order)]
    assert np.all(np.diff(finite) <= 0)
    assert np.isnan(order[len(finite) :]).all()
    lowest = units.sort("density", ascending=True)
    assert next(iter(lowest)).basis == table.basis
    assert lowest.rows(1)[0]["flags"] == "dead"
    text = repr(units.head(3))
    assert text.splitlines()[0].split()[:1] == ["address"]
    assert len(text.splitlines()) == 4
    assert [row["units"] for row in units.summary()] == [24, 20, 40]
    assert units.summary()[2]["dead"] == 1
    with pytest.raises(UnknownName, match="density"):
        units.sort("densty")


def test_logits_are_the_largest_and_smallest(units: Units) -> None:
    table = units.tables[2]
    effect = (a_dictionary().directions() @ Lens().matrix)[:, :10].numpy()  # 10 words have text
    for unit in range(5):
        tokens = [token for token, _ in table.promoted(unit)]
        np.testing.assert_array_equal(tokens, np.argsort(-effect[unit]))
        assert table.suppressed(unit)[0][1] == pytest.approx(effect[unit].min(), rel=1e-3)


def test_block_size_changes_nothing_but_rounding(store: ActivationStore, tmp_path: Path) -> None:
    made = []
    for name, batch in (("a", 64), ("b", 1024)):
        config = ExtractConfig(contexts=3, reservoir=16, shifts=4, batch=batch)
        made.append(extract([a_dictionary()], store, config=config, out=tmp_path / name).tables[0])
    for column, values in made[0].columns.items():
        np.testing.assert_allclose(values, made[1].columns[column], rtol=1e-3, atol=1e-5)
    for unit in range(40):
        for one, two in zip(made[0].contexts(unit), made[1].contexts(unit), strict=True):
            np.testing.assert_array_equal(one.rows, two.rows)


def test_same_command_same_bytes_and_finished_tables_stay(
    store: ActivationStore, tmp_path: Path
) -> None:
    basis = neurons(store, "mlp_post.0")
    one = extract([basis], store, config=SMALL, out=tmp_path / "a").tables[0].path
    two = extract([basis], store, config=SMALL, out=tmp_path / "b").tables[0].path
    assert one.read_bytes() == two.read_bytes()
    before = one.stat().st_mtime_ns
    extract([basis], store, config=SMALL, out=tmp_path / "a")
    assert one.stat().st_mtime_ns == before
    one.write_bytes(b"broken")
    extract([basis], store, config=SMALL, out=tmp_path / "a")
    assert one.read_bytes() == two.read_bytes()
    other = ExtractConfig(contexts=3, reservoir=16, shifts=4, seed=1)
    extract([basis], store, config=other, out=tmp_path / "a")
    assert one.read_bytes() != two.read_bytes()


def test_bases_by_name(store: ActivationStore, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    save_dictionary(a_dictionary(), workspace.dictionary("toy", SITE, "topk-40-k3-s0"))
    unfinished = workspace.dictionary("toy", SITE, "half")
    unfinished.mkdir(parents=True)
    found = find_bases(store, SITE, None, workspace)
    assert [basis.name for basis in found] == ["neurons", "random", "topk-40-k3-s0"]
    assert found[0].n_units == 24
    assert neurons(store, "mlp_post.0").n_units == 8
    with pytest.raises(UnknownName, match="topk-40-k3-s0"):
        find_bases(store, SITE, ["topk-40-k3"], workspace)
    made = extract([a_dictionary()], store, config=SMALL, workspace=workspace)
    assert made.tables[0].path == workspace.units("toy", SITE, "topk-40-k3-s0")
    again = open_units(workspace, "toy", SITE)
    assert len(again) == 40
    with pytest.raises(UnknownName, match="topk-40-k3-s0"):
        open_units(workspace, "toy", SITE, "neurons")


def test_neurons_reconstruct_and_random_directions_are_sparse(store: ActivationStore) -> None:
    x = torch.from_numpy(store.take(SITE, store.rows_of("all")))
    basis = neurons(store, SITE)
    z = basis.encode(x)
    assert bool((z >= 0).all())
    torch.testing.assert_close(z @ basis.directions(), x)
    assert basis.label(5) == "2-"
    density = (random_directions(store, SITE, n=50).encode(x) > 0).float().mean(dim=0)
    assert float((density - 0.01).abs().max()) < 0.002


def test_refusals(store: ActivationStore, tmp_path: Path) -> None:
    basis = neurons(store, SITE)
    with pytest.raises(ConfigError, match="nothing"):
        extract([], store, out=tmp_path)
    with pytest.raises(ConfigError, match="two bases"):
        extract([basis, basis], store, out=tmp_path)
    other = Lens()
    other.name = "other"
    with pytest.raises(ConfigError, match="captured from toy"):
        extract([basis], store, model=other, out=tmp_path)
    with pytest.raises(ConfigError, match="contexts"):
        ExtractConfig(contexts=0)


def test_two_sites_never_share_a_file(store: ActivationStore, tmp_path: Path) -> None:
    one, two = neurons(store, SITE), neurons(store, "mlp_post.0")
    with pytest.raises(ConfigError, match=r"neurons of toy/resid_post\.0 and of toy/mlp_post\.0"):
        extract([one, two], store, config=SMALL, out=tmp_path)
    assert not list(tmp_path.iterdir())
    (table,) = extract([one], store, config=SMALL, out=tmp_path).tables
    kept = table.path.read_bytes()
    with pytest.raises(ConfigError, match="a folder of its own"):
        extract([two], store, config=SMALL, out=tmp_path)
    assert table.path.read_bytes() == kept


def test_directions_of_a_transcoder_are_looked_at_where_it_writes(
    store: ActivationStore, tmp_path: Path
) -> None:
    def made(target: str) -> Dictionary:
        origin = Origin(
            model="toy",
            site="mlp_post.0",
            store="toy",
            store_digest="0" * 64,
            target=target,
            target_width=12,
        )
        return TopK(k=3, latents=10).dictionary(8, origin).requires_grad_(False)

    draw, dictionary = torch.Generator().manual_seed(0), made(SITE)
    for weight in (dictionary.W_enc, dictionary.W_dec):
        weight.copy_(torch.randn(weight.shape, generator=draw))
    basis = DictionaryBasis(dictionary, "map")
    units = extract([basis], store, model=Lens(), config=SMALL, out=tmp_path)
    (table,) = units.tables
    assert (table.site, table.n_units) == ("mlp_post.0", 10)
    effect = Lens().logit_lens(dictionary.W_dec)[:, :10]
    assert [table.promoted(unit)[0][0] for unit in range(10)] == effect.argmax(dim=1).tolist()
    with pytest.raises(UnknownName, match="mlp_out.7"):
        extract([DictionaryBasis(made("mlp_out.7"))], store, model=Lens(), config=SMALL)


def test_units_of_a_joint_site_are_extracted(store: ActivationStore, tmp_path: Path) -> None:
    both = f"{SITE}+mlp_post.0"
    units = extract([neurons(store, both)], store, model=Lens(), config=SMALL, out=tmp_path)
    (table,) = units.tables
    assert (table.site, table.n_units) == (both, 40)
    x = store.read(both, 0, store.rows)[~store.sinks]
    np.testing.assert_array_equal(table.column("active")[::2], (x > 0).sum(axis=0))


def test_rows_without_token_ids_get_no_scores_of_what_they_stand_for(tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(600, 6)).astype(np.float32))
    rows = open_table(tmp_path / "x.npy")
    imported = import_activations(rows, model="mine", site="layer.1", out=tmp_path / "store")
    basis = neurons(imported, "layer.1")
    (table,) = extract([basis], imported, config=SMALL, out=tmp_path / "units").tables
    assert np.isfinite(table.column("density")).all()
    for name in ("monosemanticity", "senses_effective", "rule_auroc", "token_share"):
        assert np.isnan(table.column(name)).all(), name
    assert not any(table.rules)
