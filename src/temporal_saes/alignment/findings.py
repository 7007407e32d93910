"""What a study found, in sentences and in the table of surface features."""

from collections.abc import Iterator, Mapping
from typing import Any

from temporal_saes.alignment.result import units
from temporal_saes.alignment.wording import SIDES, Result, p_value, signed, strong
from temporal_saes.pages import page
from temporal_saes.pages.page import Html, element, join


def sentences(result: Result) -> Iterator[str]:
    yield _length_sentence(result["surface"][0], result["pairs"]["used"])
    raw, n_tested, fdr = result["views"]["raw"], result["n_tested"], result["options"]["fdr"]
    told = f"{raw['significant']:,} of {units(result, n_tested)} differ between chosen and rejected answers"
    told += f" (false discovery rate {fdr:g})"
    if raw["significant"]:
        told += (
            f": {raw['higher_in_chosen']:,} are higher in chosen and {raw['higher_in_rejected']:,} in "
            f"rejected ones. {raw['length_latents']:,} follow length"
        )
    by_flips = result["n_significant_by_sign_flips"]
    yield f"{told}. By sign flips, with p corrected for all of them, it is {by_flips:,} (p ≤ {fdr:g})."
    if not raw["significant"] and not by_flips:
        yield (
            "What the tables list are the largest of many differences that chance can make: leads at best, "
            "no findings."
        )
    length = result["views"]["equal_length"]
    if "missing" in length:
        yield f"Length could not be held equal: {length['missing']}."
    else:
        yield (
            f"At equal length {length['significant']:,} differ; {_still(result)} of the "
            f"{raw['significant']:,} from above are among them."
        )
    predicted = result["predicted_by_length"]
    if predicted is not None and predicted > 0:
        yield f"Length alone predicts {predicted:.0%} of all squared effect sizes."
    yield (
        f"With {result['pairs']['used']:,} pairs and {n_tested:,} tests an effect that stands alone must be "
        f"|d_z| ≥ {result['smallest_effect']:.2f} to be seen; smaller ones are not ruled out."
    )


def _length_sentence(length: Mapping[str, Any], n: int) -> str:
    told = (
        f"Chosen answers have {length['chosen']:.2f} tokens on average, rejected ones "
        f"{length['rejected']:.2f} (paired t, p = {p_value(length['p'])}); the chosen one is longer in "
        f"{length['n_more']:,} and shorter in {length['n_less']:,} of {n:,} pairs."
    )
    if length["p"] >= 0.05:
        return told
    longer = SIDES[length["rejected"] > length["chosen"]]
    return f"{told} Length sets them apart: a latent for long answers looks like one for {longer} answers."


def _still(result: Result) -> int:
    latents, fdr = result["latents"], result["options"]["fdr"]
    both = zip(latents["raw_q"], latents["equal_length_q"], strict=True)
    return sum(raw <= fdr and length <= fdr for raw, length in both)


def surface_table(result: Result) -> list[Html]:
    headers = ["", "chosen", "rejected", "difference, 95 %", "d_z", "p, t", "p, ranks", "q", "more / less"]
    rows = []
    for row in result["surface"]:
        difference = row["difference"]
        interval = (
            f"{difference['mean']:+.3g} [{difference['low']:+.3g}, {difference['high']:+.3g}]"
            if difference["low"] is not None
            else f"{difference['mean']:+.3g}"
        )
        name = join([row["name"], element("span", row["rule"], class_="aid")])
        numbers = [f"{row['chosen']:.3g}", f"{row['rejected']:.3g}", interval, signed(row["effect"])]
        q = strong(p_value(row["q"]), row["q"] <= result["options"]["fdr"])
        more = f"{row['n_more']:,} / {row['n_less']:,}"
        rows.append([name, *numbers, p_value(row["p"]), p_value(row["p_wilcoxon"]), q, more])
    caption = (
        "Chosen minus rejected, paired. p of a t test and of Wilcoxon's signed ranks; q is Benjamini and "
        "Hochberg's over these rows, bold where it counts; more / less: pairs in which the chosen answer has "
        "more, less."
    )
    return [page.table(headers, rows, caption)]
