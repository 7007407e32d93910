"""Publishing on a hub and loading from it, against a hub of this machine that the real client talks to."""

import io
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from fake_hub import FakeHub
from safetensors.torch import save_file
from toy_runs import make_run

from dictionary_learning import convert
from dictionary_learning.dictionaries.temporal_sae import TemporalSAE
from dictionary_learning.errors import UserError
from dictionary_learning.exchange import released_folder
from dictionary_learning.exchange.beginning import load_beginning
from dictionary_learning.exchange.hub import from_pretrained, push_to_hub
from dictionary_learning.utils import load_dictionary

NAME = "me/tsae-tiny"
TRAINER = ("ae.pt", "checksums.json", "config.json")
RESULTS = {
    "tokens": 1000,
    "contexts": 21,
    "masks": "text tokens",
    "measures": {"all": {"fve_global": {"value": 0.8125, "formula": "1 - a / b"}, "l0": {"value": 7.5}}},
    "setting": {
        "dataset": "/data/private/texts.jsonl",
        "model": "tiny",
        "activations": "/data/private/cache",
    },
    "options": {"output_dir": "/data/private"},
    "provenance": {
        "command": "eval --model /data/private",
        "git_revision": "abc",
        "versions": {"torch": "2"},
    },
}


def test_neither_card_nor_conf_names_a_folder_of_the_machine_of_the_training(
    hub: FakeHub, run: Path, tmp_path: Path
) -> None:
    config = json.loads((run / "trainer_0" / "config.json").read_text())
    config["buffer"] |= {"dataset": "/data/private/texts.jsonl", "split": "train"}
    (run / "trainer_0" / "config.json").write_text(json.dumps(config))
    push_to_hub(run, NAME)
    card = hub.repositories[NAME]["main"]["README.md"].decode()
    assert "- texts: `texts.jsonl` (split train)" in card
    released = tmp_path / "released" / "layer_2"
    sae = TemporalSAE(6, 24, 2, kval_topk=3).eval()
    released_folder.save(sae, released, {"trainer": {"lm_name": "private/lm"}, "buffer": {}})
    conf = (released / "conf.yaml").read_text()
    # as they were written before, or elsewhere
    (released / "conf.yaml").write_text(conf.replace("private/lm", "/data/private/lm"))
    push_to_hub(released, "me/tfa-tiny")
    files = hub.repositories["me/tfa-tiny"]["main"]
    assert yaml.safe_load(files["conf.yaml"])["llm"]["model_hf_name"] == "lm"
    for name, content in [*files.items(), *hub.repositories[NAME]["main"].items()]:
        assert b"/data/private" not in content, name
    assert torch.equal(from_pretrained("me/tfa-tiny", device="cpu")[0].D, sae.D)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A T-SAE's run with an evaluation, made in a folder whose name is nobody's business."""
    folder = make_run(tmp_path / "runs" / "tsae", tmp_path / "private_lm")
    (folder / "trainer_0" / "eval_results.json").write_text(json.dumps(RESULTS))
    return folder


def test_a_run_is_published_with_its_card_and_loads_again(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    address = push_to_hub(run, NAME, private=True, licence="apache-2.0")
    assert address == f"{hub.url}/{NAME}/tree/main"
    files = hub.repositories[NAME]["main"]
    assert files.keys() == {".gitattributes", "README.md", *TRAINER, "eval_results.json"}
    assert hub.private[NAME]
    assert hub.tokens[f"/api/models/{NAME}/commit/main"] == "Bearer hf_test"

    dictionary, config = from_pretrained(NAME, device="cpu")
    before, _ = load_dictionary(run, "cpu")
    x = torch.randn(5, 32)
    assert torch.equal(dictionary.encode(x), before.encode(x))
    assert (config["trainer"]["layer"], config["trainer"]["lm_name"]) == (2, "private_lm")

    published = b"".join(files.values())
    assert str(tmp_path).encode() not in published
    assert b"/data/private" not in published


def test_a_saelens_folder_is_published_as_one_with_its_training(
    hub: FakeHub, run: Path, tmp_path: Path
) -> None:
    convert.main(["--from", str(run), "--to", "saelens", "--output", str(tmp_path / "saelens")])
    save_file({"sparsity": torch.zeros(96)}, tmp_path / "saelens" / "sparsity.safetensors")
    push_to_hub(tmp_path / "saelens", NAME)
    files = hub.repositories[NAME]["main"]
    assert {"cfg.json", "runner_cfg.json", "sae_weights.safetensors", "sparsity.safetensors"} <= files.keys()
    _, front, text = files["README.md"].decode().split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["library_name"] == "saelens"
    assert "saelens" in told["tags"]
    assert f'SAE.from_pretrained("{NAME}", ".")' in text
    training = json.loads(files["runner_cfg.json"])
    assert training["sae"]["d_in"] == 32
    assert training["temporal_saes"]["dict_class"]
    published = b"".join(files.values())
    assert str(tmp_path).encode() not in published
    # a run of ours is ours
    push_to_hub(run, f"{NAME}-run")
    front = hub.repositories[f"{NAME}-run"]["main"]["README.md"].decode().split("---\n", 2)[1]
    assert yaml.safe_load(front)["library_name"] == "temporal-saes"


def test_a_bit_that_the_way_to_the_hub_has_flipped_is_noticed(hub: FakeHub, run: Path) -> None:
    push_to_hub(run, NAME)
    files = hub.repositories[NAME]["main"]
    content = bytearray(files["ae.pt"])
    content[len(content) // 2] ^= 1
    files["ae.pt"] = bytes(content)
    with pytest.raises(UserError, match=r"ae\.pt is damaged"):
        from_pretrained(NAME, device="cpu")


def test_the_card_is_written_from_the_run(hub: FakeHub, run: Path) -> None:
    push_to_hub(run, NAME, licence="apache-2.0")
    card = hub.repositories[NAME]["main"]["README.md"].decode()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "apache-2.0"
    assert "# Matryoshka BatchTopK SAE for layer 2 of private_lm" in text
    assert "- 96 latents over activations of width 32" in text
    assert "- high: latents 0 to 31" in text
    assert "- latents kept a token (k): 8" in text
    assert "1,000 held-out tokens in 21 contexts of `texts.jsonl`" in text
    assert "0.8125" in text
    assert f'load_dictionary("{NAME}")' in text
    assert "The weights: apache-2.0." in text


def test_the_call_that_the_card_gives_runs(hub: FakeHub, run: Path) -> None:
    push_to_hub(run, NAME)
    card = hub.repositories[NAME]["main"]["README.md"].decode()
    code = card.split("```python\n")[1].split("```")[0]
    names = {"x": torch.randn(3, 32)}
    exec(code, names)
    assert names["x_hat"].shape == (3, 32)


def test_a_saelens_folder_goes_into_a_folder_and_a_branch(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "saelens"
    convert.main(["--from", str(run), "--to", "saelens", "--output", str(folder)])
    flags = ["--to", "hub", "--output", f"{NAME}/layer_2/tsae", "--branch", "v2", "--licence", "mit"]
    convert.main(["--from", str(folder), *flags])
    assert list(hub.repositories[NAME]["main"]) == [".gitattributes"]
    files = hub.repositories[NAME]["v2"]
    assert {
        f"layer_2/tsae/{name}" for name in ("cfg.json", "sae_weights.safetensors", "README.md")
    } < files.keys()
    assert f'SAE.from_pretrained("{NAME}", "layer_2/tsae")' in files["layer_2/tsae/README.md"].decode()
    dictionary, config = from_pretrained(f"{NAME}/layer_2/tsae", revision="v2", device="cpu")
    assert (dictionary.dict_size, config["trainer"]["layer"]) == (96, 2)
    with pytest.raises(UserError, match=f"{NAME} on the hub has no revision 'v3'"):
        from_pretrained(f"{NAME}/layer_2/tsae", revision="v3")


def test_a_place_that_is_taken_is_not_overwritten_unless_asked(
    hub: FakeHub, run: Path, tmp_path: Path
) -> None:
    push_to_hub(run, NAME)
    other = make_run(tmp_path / "runs" / "other", tmp_path / "private_lm", seed=1)
    with pytest.raises(UserError, match=r"holds a dictionary already \(ae\.pt, config\.json\).*--overwrite"):
        push_to_hub(other, NAME)
    before = from_pretrained(NAME, device="cpu")[0]
    push_to_hub(other, NAME, overwrite=True)
    after = from_pretrained(NAME, device="cpu")[0]
    assert not torch.equal(after.state_dict()["W_dec"], before.state_dict()["W_dec"])


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "private, or your token is wrong: run `hf auth login`"),
        (403, r"your token may not do this to me/tsae-tiny on the hub \(403\)"),
        (429, r"too many requests from here \(429\)"),
        (500, r"a fault of its own \(500\).*try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub: FakeHub, run: Path, status: int, sentence: str) -> None:
    push_to_hub(run, NAME)
    hub.refuse = status
    for ask in (lambda: push_to_hub(run, NAME), lambda: from_pretrained(NAME, device="cpu")):
        with pytest.raises(UserError, match=sentence) as raised:
            ask()
        assert "\n" not in str(raised.value)


def test_a_hub_that_is_away_is_one_sentence(hub: FakeHub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"the hub cannot be reached .*: check the connection"):
        push_to_hub(run, NAME)


def test_nothing_is_sent_of_what_does_not_load(hub: FakeHub, run: Path) -> None:
    (run / "trainer_0" / "ae.pt").write_bytes(b"PK\3\4")
    with pytest.raises(UserError, match="damaged or cut short"):
        push_to_hub(run, NAME)
    with pytest.raises(UserError, match="'tsae' is no name of a repository"):
        push_to_hub(run, "tsae")
    assert hub.requests == []


def test_every_example_of_the_docs_runs(hub: FakeHub, tmp_path: Path) -> None:
    make_run(Path("runs/demo/tsae"), tmp_path / "private_lm")
    text = (Path(__file__).parents[2] / "docs" / "exchange.md").read_text(encoding="utf-8")
    ran = []
    # one within a list is a piece of a program, of a model that is there
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        if language == "python" and not re.search("sae_lens|delphi", code):  # those: in test_exchange.py
            exec(code, {})
            ran.append("python")
        for line in code.splitlines():
            words = shlex.split(line)
            if language == "bash" and words[:3] == ["python", "-m", "dictionary_learning.convert"]:
                convert.main(words[3:])
                ran.append(words[words.index("--to") + 1])
    assert ran == ["saelens", "run", "dictionary_learning", "python", "hub", "python"]
    assert load_dictionary("runs/from_saelens", "cpu")[0].dict_size == 96


def a_file(**content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_a_single_file_is_loaded_without_the_others_of_its_repository(hub: FakeHub, run: Path) -> None:
    ae, _ = load_dictionary(run, "cpu")
    state = {name: t.half() if t.dtype == torch.float32 else t for name, t in ae.state_dict().items()}
    meta = {"k_pos": 8, "subject_model": "tiny", "layer": 2, "seed": 42}
    with_meta = a_file(state_dict=state, arch="tsae_paper_k8", meta=meta)
    log = json.dumps({**meta, "layer": 3}).encode()
    files = {
        "a.pt": with_meta,
        "ckpts/b.pt": a_file(**state),
        "ckpts/c.pt": with_meta,
        "training_logs/b.json": log,
    }
    hub.repositories["han/txcdr"] = {"main": files, "older": {"a.pt": files["ckpts/b.pt"]}}

    one, config = load_dictionary("han/txcdr/a.pt", "cpu")
    assert (config["trainer"]["layer"], config["trainer"]["seed"]) == (2, 42)
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    widened = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    expected = type(ae).from_state_dict(widened, {})
    assert torch.equal(one.encode(x), expected.encode(x))
    asked = {path for method, path in hub.requests if method == "GET" and "/resolve/" in path}
    assert {path.rpartition("/")[2] for path in asked} == {"a.pt"}

    # its meta stands in the log beside its folder
    two, config = load_dictionary("han/txcdr/ckpts/b.pt", "cpu")
    assert config["trainer"]["layer"] == 3
    assert torch.equal(two.encode(x), one.encode(x))
    assert load_beginning("han/txcdr/ckpts/c.pt").models == {"tiny"}
    _, config = load_dictionary("han/txcdr/a.pt", "cpu", revision="older")
    assert config["trainer"].get("seed") is None


def test_a_single_file_that_the_hub_does_not_have_is_told(hub: FakeHub) -> None:
    hub.repositories["han/txcdr"] = {"main": {"a.pt": b"", "notes.md": b"x"}}
    with pytest.raises(UserError, match=r"han/txcdr on the hub has no file 'b.pt': check the name"):
        load_dictionary("han/txcdr/b.pt", "cpu")
    with pytest.raises(UserError, match=r"a.pt"):
        load_dictionary("han/txcdr/a.pt", "cpu")
    with pytest.raises(UserError, match=r"no revision 'v9'"):
        load_dictionary("han/txcdr/a.pt", "cpu", revision="v9")
