"""What single tokens say, also where they are no text."""

from types import SimpleNamespace

from conftest import corpus_records, make_tokenizer

from temporal_saes.latents.token_text import token_texts


def test_texts_of_tokens_join_to_the_text_and_bytes_are_written_out() -> None:
    tokenizer = make_tokenizer([record["text"] for record in corpus_records()], eos_token="<|endoftext|>")
    text = "The  comet\n<script> é"
    ids = tokenizer(text)["input_ids"]
    told = token_texts(tokenizer, ids)
    assert "".join(told) == text.replace("é", "⟨C3⟩⟨A9⟩")
    # a token that ends in the middle of a character keeps what is whole
    assert token_texts(tokenizer, [0]) == ["<|endoftext|>"]
    assert token_texts(tokenizer, [len(tokenizer), -1]) == [f"[{len(tokenizer)}]", "[-1]"]
    assert token_texts(tokenizer, []) == []


class Sentencepiece(SimpleNamespace):
    """The parts of such a tokenizer that are asked: spaces are ▁, decoding drops the first of them."""

    pieces = ("▁The", "s", "▁▁", "<0xE2>", "<0x41>", "\ufffd")

    def __len__(self) -> int:
        return len(self.pieces)

    def convert_ids_to_tokens(self, number: int) -> str:
        return self.pieces[number]

    def decode(self, ids: list[int], **options: bool) -> str:
        return self.pieces[ids[0]].replace("▁", " ").removeprefix(" ")


def test_spaces_and_bytes_of_sentencepiece_are_kept() -> None:
    assert token_texts(Sentencepiece(), range(6)) == [" The", "s", "  ", "⟨E2⟩", "A", "\ufffd"]
