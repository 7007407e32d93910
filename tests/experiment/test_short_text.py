import pytest

from temporal_saes.experiment.short_text import columns, shortened
from temporal_saes.sequences.figure import latent_label
from temporal_saes.similarity.study import first_words


def test_a_short_text_is_itself_on_one_line():
    assert shortened(" a\n b\tc ", 5) == "a b c"


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("The moon rose over the hill", 12, "The moon …"),
        ("The moonlight", 12, "The moonli …"),  # a word's end is far from there
        ("Donaudampfschifffahrt", 10, "Donaudam …"),
        ("月が出た。星も出た。", 12, "月が出た。 …"),
        ("क्या चाँद निकला", 9, "क्या चाँद …"),
        ("قريب من المدار", 10, "قريب من …"),
        ("🌍🌍🌍🌍", 6, "🌍🌍 …"),
    ],
)
def test_a_long_one_is_cut_where_it_fits(text, width, expected):
    assert shortened(text, width) == expected
    assert columns(expected) <= width


def test_labels_of_figures_stay_narrow_without_spaces():
    assert first_words("すべての玉ねぎは生地である。" * 3) == "すべての玉ねぎは生 …"
    assert first_words("The moon rose over the hill") == "The moon rose over …"
    many = latent_label(
        {"latent": 7, "explanation": "", "held_over": ["すべての", "玉ねぎは", "生地である"] * 3}
    )
    lines = many.split("\n")
    assert len(lines) == 2
    assert max(map(columns, lines)) <= 22 + len(" · 7")
    assert latent_label({"latent": 7, "explanation": "one, two"}) == "one, two · 7"
    assert latent_label({"latent": 7, "explanation": ""}) == "7"
