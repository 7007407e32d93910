import dataclasses
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from model_families import tiny_model
from safetensors.torch import load_file, save_file

from dictionary_learning.command.lock import if_free
from dictionary_learning.dictionaries.base import Dictionary
from dictionary_learning.errors import UserError
from dictionary_learning.language_model import LanguageModel, fingerprint
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from temporal_saes import features, recorded_activations
from temporal_saes.features import every_usable, extract_features, last_usable
from temporal_saes.reading import Reading
from temporal_saes.recorded_activations import weights_identity

LAYER, LENGTH, WIDTH, LATENTS = 2, 24, 32, 40


@pytest.fixture(scope="module")
def lm(tiny_lm_folder):
    return LanguageModel.load(str(tiny_lm_folder), device="cpu")


@pytest.fixture(autouse=True)
def cache(own_cache):
    return own_cache / "activations"


@pytest.fixture
def calls(monkeypatch):
    """The batch sizes of every call of the language model."""
    sizes = []
    record = LanguageModel.record

    def counted(self, tokens_BL, mask_BL, layer):
        sizes.append(len(tokens_BL))
        return record(self, tokens_BL, mask_BL, layer)

    monkeypatch.setattr(LanguageModel, "record", counted)
    return sizes


def dictionary(width: int = WIDTH) -> MatryoshkaBatchTopKSAE:
    torch.manual_seed(0)
    made = MatryoshkaBatchTopKSAE(width, LATENTS, k=8, group_sizes=[10, 30])
    made.threshold.fill_(0.5)
    return made


TEXTS = [
    "The distant comet circles the galaxy.",
    "A judge near the tribunal often overrules it. The binding contract forbids the appeal, every clause.",
    "Onion",
    "In 1850, the oven and the dough were salty.<|endoftext|>",
    "",
]
READING = Reading(LENGTH, lm_batch_size=2)


def extract(texts, lm, layer, sae, chunk=2, choose=every_usable, **changes):
    """`extract_features` as `READING` says, with changes to it, in silence."""
    reading = dataclasses.replace(READING, **changes)
    return extract_features(texts, lm, layer, reading, sae, chunk, choose=choose, log=lambda line: None)


def naive(lm, sae, columns, max_norm_ratio=None):
    """One text at a time, one position at a time: rows of features with (text, position)."""
    found, norms = [], []
    for index, text in enumerate(TEXTS):
        ids = lm.tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"]
        if not ids:
            continue
        x_LD = lm.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER + 1][0]
        for position, token in enumerate(ids):
            if token not in lm.special_ids:
                norms.append(float(x_LD[position].norm()))
                found.append((index, position, x_LD[position]))
    limit = np.inf if max_norm_ratio is None else max_norm_ratio * np.median(norms)
    kept = [entry for entry, norm in zip(found, norms, strict=True) if norm <= limit]
    places = [(index, position) for index, position, _ in kept]
    rows = [x_D if sae is None else sae.encode(x_D[None])[0][columns] for _, _, x_D in kept]
    return places, torch.stack(rows).detach().numpy()


@pytest.mark.parametrize(("chunk", "columns"), [(0, slice(0, 10)), (1, slice(10, 40)), (2, slice(0, 40))])
def test_features_are_those_of_one_text_at_a_time(lm, chunk, columns):
    sae = dictionary()
    got = extract(TEXTS, lm, LAYER, sae, chunk)
    places, expected = naive(lm, sae, columns)
    assert list(zip(got.text_N, got.position_N, strict=True)) == places
    np.testing.assert_allclose(got.x.toarray(), expected, rtol=1e-4, atol=1e-4)
    assert 0 < got.x.nnz < got.x.shape[0] * got.x.shape[1]


def test_without_a_dictionary_the_activations_themselves_come_out(lm):
    got = extract(TEXTS, lm, LAYER, None)
    _, expected = naive(lm, None, slice(None))
    assert got.x.dtype == np.float32
    np.testing.assert_allclose(got.x, expected, rtol=1e-4, atol=1e-4)


def test_tokens_carry_ids_and_characters_and_special_ones_are_not_usable(lm):
    got = extract(TEXTS, lm, LAYER, None)
    tokens = got.tokens[3]
    assert tokens.ids_L.tolist() == lm.tokenizer(TEXTS[3])["input_ids"]
    assert TEXTS[3][slice(*tokens.offsets[-2])] == "."
    assert tokens.usable_L.tolist() == [True] * (len(tokens.ids_L) - 1) + [False]
    assert len(got.tokens[4].ids_L) == 0


def test_only_chosen_positions_come_out(lm):
    last = extract(TEXTS, lm, LAYER, dictionary(), 2, choose=last_usable)
    assert last.text_N.tolist() == [0, 1, 2, 3]  # the empty text has none
    lengths = [len(tokens.ids_L) for tokens in last.tokens]
    assert last.position_N.tolist() == [lengths[0] - 1, lengths[1] - 1, lengths[2] - 1, lengths[3] - 2]
    given = {1: [0, 3]}
    some = extract(TEXTS, lm, LAYER, None, choose=lambda i, tokens: given.get(i, []))
    assert list(zip(some.text_N, some.position_N, strict=True)) == [(1, 0), (1, 3)]
    none = extract(TEXTS, lm, LAYER, dictionary(), choose=lambda i, tokens: [])
    assert none.x.shape == (0, LATENTS)


def test_norm_outliers_are_not_usable(lm):
    plain = extract(TEXTS, lm, LAYER, None, max_norm_ratio=None)
    norms = np.linalg.norm(plain.x, axis=1)
    ratio = float(np.quantile(norms, 0.8) / np.median(norms))
    got = extract(TEXTS, lm, LAYER, None, max_norm_ratio=ratio)
    places, _ = naive(lm, None, slice(None), max_norm_ratio=ratio)
    assert list(zip(got.text_N, got.position_N, strict=True)) == places
    assert got.outlier_share == pytest.approx(1 - len(places) / len(norms))
    assert 0.1 < got.outlier_share < 0.3


def test_the_language_model_runs_once_for_all_dictionaries_and_chunks(lm, calls, cache):
    first = extract(TEXTS, lm, LAYER, dictionary(), 0)
    assert sum(calls) == 4  # the empty text is not run
    calls.clear()
    again = extract(TEXTS, lm, LAYER, dictionary(), 0)
    extract(TEXTS, lm, LAYER, dictionary(), 1, choose=last_usable)
    extract(TEXTS, lm, LAYER, None)
    assert calls == []
    assert (first.x != again.x).nnz == 0
    for changed in ({"context_length": 8}, {"max_norm_ratio": 2.0}):
        extract(TEXTS, lm, LAYER, None, **changed)
    assert sum(calls) == 4  # other tokens are run, another filter is not
    extract(TEXTS, lm, LAYER + 1, None)
    assert sum(calls) == 8


def test_more_texts_run_only_those_that_are_new(lm, calls, monkeypatch):
    monkeypatch.setattr(recorded_activations, "SHARD_TEXTS", 2)
    small = extract(TEXTS[:2], lm, LAYER, None)
    calls.clear()
    large = extract(TEXTS[:4], lm, LAYER, None)
    assert sum(calls) == 2
    np.testing.assert_array_equal(large.x[: len(small.x)], small.x)


def test_what_another_process_is_at_work_on_waits_until_nothing_else_is_left(lm, calls, monkeypatch, cache):
    monkeypatch.setattr(recorded_activations, "SHARD_TEXTS", 2)
    expected = extract(TEXTS[:4], lm, LAYER, None)
    made = {path: path.read_bytes() for path in cache.glob("*.safetensors")}
    assert len(made) == 2
    first = next(path for path in made if len(load_file(path)["x_TD"]) == n_tokens(lm, TEXTS[:2]))
    for path in made:
        path.unlink()
    calls.clear()
    waited = []

    @contextmanager
    def other_ends(path):
        """The other process ends its file while this one waits."""
        waited.append(path)
        assert sum(calls) == 2  # the second group
        path.write_bytes(made[path])
        other.close()
        yield

    other = ExitStack()
    assert other.enter_context(if_free(first))
    monkeypatch.setattr(recorded_activations, "in_turn", other_ends)
    found = extract(TEXTS[:4], lm, LAYER, None)
    assert waited == [first]
    assert sum(calls) == 2
    np.testing.assert_array_equal(found.x, expected.x)
    assert {path.name for path in cache.iterdir()} == {path.name for path in made}


def n_tokens(lm: LanguageModel, texts: list[str]) -> int:
    return sum(len(lm.tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"]) for text in texts)


def test_two_that_read_the_same_texts_at_once_share_them(tiny_lm_folder, calls, monkeypatch):
    monkeypatch.setattr(recorded_activations, "SHARD_TEXTS", 2)
    texts = [f"{text} {number}" for number in range(4) for text in TEXTS[:3]]
    models = [LanguageModel.load(str(tiny_lm_folder), device="cpu") for _ in range(2)]
    expected = extract(texts, models[0], LAYER, None, cache=False).x
    calls.clear()
    with ThreadPoolExecutor(2) as threads:
        for found in threads.map(lambda lm: extract(texts, lm, LAYER, None).x, models):
            np.testing.assert_array_equal(found, expected)
    assert sum(calls) == len(texts)


def test_a_folder_without_locks_is_no_obstacle(lm, monkeypatch):
    def refused(path):
        raise OSError("no locks available")

    expected = extract(TEXTS, lm, LAYER, None, cache=False).x
    monkeypatch.setattr(recorded_activations, "if_free", refused)
    np.testing.assert_array_equal(extract(TEXTS, lm, LAYER, None).x, expected)


def test_without_a_cache_nothing_is_kept(lm, cache):
    extract(TEXTS, lm, LAYER, None, cache=False)
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_cache_file_is_made_again(lm, calls, cache, damage):
    before = extract(TEXTS, lm, LAYER, None)
    (file,) = cache.glob("*.safetensors")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        save_file({"x_TD": load_file(file)["x_TD"][:3].clone()}, file)
    calls.clear()
    after = extract(TEXTS, lm, LAYER, None)
    assert sum(calls) == 4
    np.testing.assert_array_equal(before.x, after.x)


def test_the_identity_is_of_the_weights_and_not_of_the_name(lm, tiny_lm_folder, tmp_path):
    other = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    other.name = "another name"
    assert weights_identity(other, LAYER) == weights_identity(lm, LAYER)
    assert weights_identity(other, LAYER) != weights_identity(lm, LAYER - 1)
    with torch.no_grad():
        other.layers[LAYER].mlp.down_proj.weight.mul_(1.01)
    assert weights_identity(other, LAYER) != weights_identity(lm, LAYER)
    assert weights_identity(other, LAYER - 1) == weights_identity(lm, LAYER - 1)


class MeanSoFar(Dictionary):
    """Latents are the mean of the activations up to and with a token: a code that needs the sequence."""

    reads_sequences = True

    def __init__(self):
        super().__init__()
        self.activation_dim = self.dict_size = WIDTH
        self.scale = torch.nn.Parameter(torch.ones(1))

    def encode(self, x):
        assert x.ndim == 3
        counts_L1 = torch.arange(1, x.shape[1] + 1)[:, None]
        return self.scale * x.cumsum(dim=1) / counts_L1

    def decode(self, f):
        return f

    @classmethod
    def from_state_dict(cls, state, config):
        raise NotImplementedError


def test_a_dictionary_that_reads_sequences_sees_each_text_whole_and_alone(lm):
    dense = extract(TEXTS, lm, LAYER, None, max_norm_ratio=None)
    got = extract(
        TEXTS, lm, LAYER, MeanSoFar(), max_norm_ratio=None, choose=lambda i, t: every_usable(i, t)[3::2]
    )
    assert len(got.text_N) > 4
    for row, (text, position) in enumerate(zip(got.text_N, got.position_N, strict=True)):
        expected = dense.x[(dense.text_N == text) & (dense.position_N <= position)].mean(axis=0)
        np.testing.assert_allclose(got.x[[row]].toarray()[0], expected, rtol=1e-4, atol=1e-4)


def test_the_cut_of_a_causal_model_is_the_same_as_the_uncut_text(lm):
    text = "A faint planet circles the moon. The nebula eclipses it."
    whole = extract([text], lm, LAYER, None)
    _, end = whole.tokens[0].offsets[5]
    cut = extract([text[:end]], lm, LAYER, None, choose=last_usable)
    assert cut.position_N.tolist() == [5]
    np.testing.assert_allclose(cut.x[0], whole.x[5], rtol=1e-4, atol=1e-4)


def test_a_bos_that_training_did_not_use_is_not_read(lm, monkeypatch):
    first = lm.tokenizer(TEXTS[0])["input_ids"][0]
    monkeypatch.setattr(lm, "bos_id", first)  # as if the tokenizer had put it there
    got = extract(TEXTS[:1], lm, LAYER, None, add_bos=False)
    assert got.tokens[0].ids_L.tolist() == lm.tokenizer(TEXTS[0])["input_ids"][1:]
    assert got.tokens[0].offsets[0][0] > 0


def test_what_does_not_fit_is_told_in_a_sentence(lm):
    with pytest.raises(UserError, match="width 16"):
        extract(TEXTS, lm, LAYER, dictionary(16))
    with pytest.raises(UserError, match="layer 9"):
        extract(TEXTS, lm, 9, None)
    with pytest.raises(UserError, match="chunk 3 does not exist"):
        extract(TEXTS, lm, LAYER, dictionary(), 3)
    broken = dictionary()
    with torch.no_grad():
        broken.b_dec.fill_(torch.nan)
        broken.threshold.fill_(-1)
        broken.b_enc.fill_(torch.inf)
    with pytest.raises(UserError, match="latents that are not finite"):
        extract(TEXTS, lm, LAYER, broken)


def test_activations_that_are_not_finite_are_told_and_not_kept(lm, monkeypatch, cache):
    record = LanguageModel.record
    monkeypatch.setattr(LanguageModel, "record", lambda *args: record(*args) * torch.nan)
    with pytest.raises(UserError, match="not finite"):
        extract(TEXTS, lm, LAYER, None)
    assert not list(cache.glob("*"))


def test_a_sink_is_no_context_for_a_dictionary_that_reads_sequences(lm, monkeypatch):
    record = LanguageModel.record

    def with_sink(*args):
        x_BLD = record(*args).clone()
        x_BLD[:, 0] = 1e4
        return x_BLD

    monkeypatch.setattr(LanguageModel, "record", with_sink)
    dense = extract(TEXTS, lm, LAYER, None, cache=False)
    got = extract(TEXTS, lm, LAYER, MeanSoFar(), choose=lambda i, t: every_usable(i, t)[2::2], cache=False)
    assert not dense.x.max() > 1e3
    for row, (text, position) in enumerate(zip(got.text_N, got.position_N, strict=True)):
        expected = dense.x[(dense.text_N == text) & (dense.position_N <= position)].mean(axis=0)
        np.testing.assert_allclose(got.x[[row]].toarray()[0], expected, rtol=1e-4, atol=1e-4)


def test_activations_come_text_by_text_with_every_position(lm, monkeypatch):
    monkeypatch.setattr(recorded_activations, "SHARD_TEXTS", 2)
    sae = dictionary()
    expected = extract(TEXTS, lm, LAYER, sae, 1)
    rows = []
    for index, (tokens, x_LD) in enumerate(features.read_activations(TEXTS, lm, LAYER, READING)):
        assert x_LD.shape == (len(expected.tokens[index].ids_L), WIDTH)
        rows.append(features.encode_text(sae, x_LD, tokens.usable_L)[:, 10:].numpy())
    np.testing.assert_allclose(np.concatenate(rows), expected.x.toarray(), rtol=1e-5, atol=1e-5)


# --- what the cache is worth ---


def edit_an_embedding_row(lm: LanguageModel) -> None:
    lm.model.get_input_embeddings().weight[37] *= 2


def edit_a_neuron(lm: LanguageModel) -> None:
    lm.layers[1].mlp.down_proj.weight[:, 5] = 0


def edit_through_data(lm: LanguageModel) -> None:
    lm.layers[1].mlp.up_proj.weight.data[5] *= 2


def swap_two_rows(lm: LanguageModel) -> None:
    weight = lm.model.get_input_embeddings().weight
    weight[[8, 9]] = weight[[9, 8]]


@pytest.mark.parametrize("edit", [edit_an_embedding_row, edit_a_neuron, edit_through_data, swap_two_rows])
def test_a_model_that_is_edited_in_memory_is_another_model(tiny_lm_folder, calls, edit):
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    text = lm.tokenizer.decode(range(300, 320))
    before = extract([text], lm, LAYER, None)
    calls.clear()
    with torch.no_grad():
        edit(lm)
    extract([text], lm, LAYER, None)
    assert sum(calls) == 1
    assert len(before.x)


def test_learned_positions_are_part_of_the_identity(tiny_lm_folder):
    tokenizer = LanguageModel.load(str(tiny_lm_folder), device="cpu").tokenizer
    lm = LanguageModel.wrap(tiny_model("gpt2"), tokenizer, "gpt2")
    before = weights_identity(lm, 1)
    assert weights_identity(lm, 1) == before
    with torch.no_grad():
        lm.model.transformer.wpe.weight[77] += 1
    assert weights_identity(lm, 1) != before


def test_a_copy_in_another_folder_has_the_same_identity(lm, tiny_lm_folder, tmp_path):
    copy = shutil.copytree(tiny_lm_folder, tmp_path / "copy")
    assert weights_identity(LanguageModel.load(str(copy), device="cpu"), LAYER) == weights_identity(lm, LAYER)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.float64])
@pytest.mark.parametrize("part", [slice(0, 8), slice(1, 8), slice(1, 9), slice(2, 9), slice(0, 0)])
def test_a_change_of_any_number_of_a_weight_is_seen_wherever_it_lies_in_memory(dtype, part):
    weight = torch.arange(9).to(dtype)[part]
    before = fingerprint._state(weight)
    for i in range(len(weight)):
        weight.data[i] += 1
        assert fingerprint._state(weight) != before
        weight.data[i] -= 1
    assert fingerprint._state(weight) == before


def test_the_weights_are_hashed_once_while_nothing_changes(tiny_lm_folder, monkeypatch):
    lm = LanguageModel.load(str(tiny_lm_folder), device="cpu")
    hashed = []
    whole = fingerprint.weights_fingerprint
    monkeypatch.setattr(
        fingerprint, "weights_fingerprint", lambda *args: hashed.append(args[1]) or whole(*args)
    )
    for layer in (1, 1, 2, 1, 2):
        weights_identity(lm, layer)
    assert hashed == [1, 2]
    with torch.no_grad():
        lm.layers[2].mlp.up_proj.weight[0, 0] += 1
    for layer in (1, 2, 2):
        weights_identity(lm, layer)
    assert hashed == [1, 2, 2]


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(bytes(content))


def put_nan_in(file: Path) -> None:
    x_TD = load_file(file)["x_TD"]
    x_TD[3, 3] = torch.nan
    sha256 = recorded_activations._sha256(file.stem, x_TD)
    save_file({"x_TD": x_TD}, file, {"sha256": sha256})


def without_a_checksum(file: Path) -> None:
    save_file({"x_TD": load_file(file)["x_TD"] + 1}, file)


def of_other_texts(file: Path) -> None:
    x_TD = load_file(file)["x_TD"].flip(0)
    save_file({"x_TD": x_TD}, file, {"sha256": recorded_activations._sha256("0" * 32, x_TD)})


@pytest.mark.parametrize("damage", [flip_a_bit, put_nan_in, without_a_checksum, of_other_texts])
def test_what_is_not_as_it_was_written_is_told_and_made_again(lm, calls, cache, damage):
    before = extract(TEXTS, lm, LAYER, None)
    (file,) = cache.glob("*.safetensors")
    damage(file)
    calls.clear()
    said: list[str] = []
    after = extract_features(TEXTS, lm, LAYER, READING, None, log=said.append)
    np.testing.assert_array_equal(before.x, after.x)
    assert sum(calls) == 4
    assert [file.name in line and "removed and made again" in line for line in said] == [True]
    extract(TEXTS, lm, LAYER, None)
    assert sum(calls) == 4  # the new file is whole


def without_a_cache(lm: LanguageModel, said: list[str]) -> np.ndarray:
    return extract_features(TEXTS, lm, LAYER, READING, None, log=said.append).x


def test_a_folder_in_place_of_a_file_is_no_obstacle(lm, cache):
    expected = extract(TEXTS, lm, LAYER, None).x
    (file,) = cache.glob("*.safetensors")
    file.unlink()
    file.mkdir()
    said: list[str] = []
    np.testing.assert_array_equal(without_a_cache(lm, said), expected)
    assert [line for line in said if "not kept" in line and file.name in line] == said[-1:]
    assert [path.name for path in cache.iterdir()] == [file.name]


@pytest.mark.parametrize("variable", ["TEMPORAL_SAES_CACHE", "XDG_CACHE_HOME"])
def test_a_cache_folder_that_is_a_file_is_no_obstacle(lm, tmp_path, monkeypatch, variable):
    expected = extract(TEXTS, lm, LAYER, None, cache=False).x
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("TEMPORAL_SAES_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    said: list[str] = []
    np.testing.assert_array_equal(without_a_cache(lm, said), expected)
    assert "not kept on the disk" in said[0]
    assert "is a file, not a folder: choose another TEMPORAL_SAES_CACHE" in said[0]
    assert "kept in" not in said[1]
    assert len(said) == 2


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), UserError("the disk is full")])
def test_a_disk_that_refuses_is_told_once_and_is_no_obstacle(lm, monkeypatch, cache, error):
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(recorded_activations, "SHARD_TEXTS", 2)
    monkeypatch.setattr(recorded_activations, "save_atomically", refuse)
    said: list[str] = []
    expected = extract(TEXTS, lm, LAYER, None, cache=False).x
    np.testing.assert_array_equal(without_a_cache(lm, said), expected)
    assert ["not kept" in line for line in said] == [False, True]
    assert not list(cache.glob("*"))
