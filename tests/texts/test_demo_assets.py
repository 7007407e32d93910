"""The demo's assets: the texts on hand-made records, and the real ones when they can be fetched."""

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import Demo
from wiki_dump import PROSE, write_dump

from dictionary_learning.errors import UserError
from dictionary_learning.texts import demo_assets


def documents(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path))
    assert demo_assets.cache_folder() == tmp_path
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", "~/there")
    assert demo_assets.cache_folder() == Path.home() / "there"


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "base/temporal-saes"),
        ("win32", "LOCALAPPDATA", "base/temporal-saes"),
        ("linux", None, "home/.cache/temporal-saes"),
        ("darwin", None, "home/Library/Caches/temporal-saes"),
        ("win32", None, "home/AppData/Local/temporal-saes"),
    ],
)
def test_the_cache_is_where_the_platform_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variable: str | None, expected: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for name in ("TEMPORAL_SAES_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", "")  # an empty value is no value
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "base"))
    assert demo_assets.cache_folder() == tmp_path / expected


def test_an_unknown_name_is_a_sentence_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'poems'.*extracts, articles, addresses"):
        demo_assets.corpus_path("poems")
    with pytest.raises(UserError, match=r"'poems'.*language_model"):
        demo_assets.fetch(["poems"])


def test_the_second_model_is_fetched_only_when_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[set[str]] = []
    monkeypatch.setattr(demo_assets, "ensure", lambda assets, cache, log: asked.append(set(assets)) or {})
    demo_assets.fetch()
    assert asked == [{"language_model", "extracts", "articles", "addresses"}]
    monkeypatch.setattr(demo_assets, "fetch", lambda names: {name: tmp_path / name for name in names})
    assert demo_assets.language_model_folder() == tmp_path / "language_model"
    assert demo_assets.language_model_folder("demo-gemma") == tmp_path / "gemma"


def test_extracts_have_their_topic_as_domain_and_none_where_there_is_none(tmp_path: Path) -> None:
    records = {
        "A B": {"title": "A B", "extract": "One.\nTwo. ", "description": "x", "topic": "Arts"},
        "C": {"title": "C", "extract": "Three.", "description": "x", "topic": "Uncategorized"},
    }
    (tmp_path / "in.json").write_text(json.dumps(records))
    demo_assets._build_extracts(demo_assets.ASSETS["extracts"], [tmp_path / "in.json"], tmp_path)
    first, second = documents(tmp_path / "extracts.jsonl")
    assert first == {
        "text": "One.\n\nTwo.",
        "domain": "Arts",
        "title": "A B",
        "source": "https://en.wikipedia.org/wiki/A_B",
    }
    assert second["domain"] is None


def test_an_article_is_one_document_and_pages_without_a_domain_are_left_out(tmp_path: Path) -> None:
    text = f"{PROSE}\n\n{PROSE}"
    dump = write_dump(tmp_path / "dump.bz2", [("Aardvark", "0", text), ("Ada", "0", text)])
    demo_assets._build_articles(demo_assets.ASSETS["articles"], [dump], tmp_path)
    (article,) = documents(tmp_path / "articles.jsonl")
    assert article["text"] == f"{PROSE}\n\n{PROSE}"
    assert article["domain"] == "biology and medicine"
    licence = (tmp_path / "LICENSE.txt").read_text(encoding="utf-8")
    for part in ("Attribution-ShareAlike 4.0", "Articles: Aardvark\n", "gensim==4.4.0"):
        assert part in licence


def test_no_article_has_two_domains() -> None:
    import yaml

    path = Path(demo_assets.__file__).with_name("demo_articles.yaml")
    titles = [title for group in yaml.safe_load(path.read_text()).values() for title in group]
    assert len(titles) == len(set(titles)) == 97


def test_an_address_is_one_document_without_stage_directions(tmp_path: Path) -> None:
    table = "fileid,year,date,president_full,source_url\n1999-X-1,1999,1999-01-19,A. X,https://a.example/1\n"
    (tmp_path / "metadata.csv").write_text(table)
    (tmp_path / "1999-X-1.txt").write_text("Thank you. [Applause] We\nmeet.\n\n[Laughter]\n\nGood night.")
    members = [tmp_path / "1999-X-1.txt", tmp_path / "metadata.csv"]
    demo_assets._build_addresses(demo_assets.ASSETS["addresses"], members, tmp_path)
    assert documents(tmp_path / "addresses.jsonl") == [
        {
            "text": "Thank you. We meet.\n\nGood night.",
            "domain": "presidential address",
            "title": "A. X, 1999-01-19",
            "source": "https://a.example/1",
        }
    ]
    assert "1999 to 1999" in (tmp_path / "LICENSE.txt").read_text()


def test_the_real_corpora_are_whole_and_clean(demo: Demo) -> None:
    corpora = {name: documents(path) for name, path in demo.corpus.items()}
    assert {name: len(corpus) for name, corpus in corpora.items()} == {
        "extracts": 10033,
        "articles": 97,
        "addresses": 249,
    }
    for name, corpus in corpora.items():
        assert all(list(document) == ["text", "domain", "title", "source"] for document in corpus)
        assert all(document["text"].strip() == document["text"] != "" for document in corpus)
        assert (demo.corpus[name].parent / "LICENSE.txt").stat().st_size > 400
    assert len({d["domain"] for d in corpora["articles"]}) == 12
    assert len({d["domain"] for d in corpora["extracts"]} - {None}) == 11
    text = "\n".join(document["text"] for document in corpora["articles"])
    for markup in ("[[", "]]", "{{", "}}", "'''", "<ref", "&nbsp;", "thumb|", "=="):
        assert markup not in text
    assert "[Applause]" not in "".join(document["text"] for document in corpora["addresses"])


def test_the_real_language_model_loads_plainly_and_speaks(demo: Demo) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(demo.language_model)
    tokenizer = AutoTokenizer.from_pretrained(demo.language_model)
    assert model.dtype == torch.float32
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (30, 576)

    with torch.no_grad():
        prompt = tokenizer("The capital of France is", return_tensors="pt")
        next_token = model(**prompt).logits[0, -1].argmax()
        text = documents(demo.corpus["addresses"])[0]["text"][:1500]
        tokens = tokenizer(text, return_tensors="pt").input_ids
        loss = model(tokens, labels=tokens).loss
    assert tokenizer.decode(next_token) == " Paris"
    # the model that transformers itself reads from the GGUF file has 3.6 here; a broken one has 10 and more
    assert loss < 4
    assert "Apache" in (demo.language_model / "LICENSE.txt").read_text()


@pytest.mark.slow
def test_the_second_language_model_loads_plainly_and_speaks_and_has_its_terms_beside_it() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = demo_assets.language_model_folder("demo-gemma")
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (18, 640)
    text = documents(demo_assets.corpus_path("addresses"))[0]["text"][:3000]
    tokens = tokenizer(text, return_tensors="pt").input_ids
    assert tokens[0, 0] == tokenizer.bos_token_id
    with torch.no_grad():
        loss = model(tokens, labels=tokens).loss
    # the model that transformers itself reads from the GGUF file has 3.4 here; a broken one has 12 and more
    assert loss < 4
    assert "Gemma Terms of Use" in (folder / "LICENSE.txt").read_text()
    assert "Gemma Terms of Use" in (folder / "GEMMA_TERMS.html").read_text(encoding="utf-8")
