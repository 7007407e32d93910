"""The pages of the alignment study: one subject with its latents on examples, and several side by side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from temporal_saes.alignment.examples import Answer, Example, Shown
from temporal_saes.alignment.result import VIEW_NAMES, units
from temporal_saes.alignment.study import VIEWS
from temporal_saes.experiment.results import label
from temporal_saes.pages import page
from temporal_saes.pages.page import Html, element, join
from temporal_saes.pages.text_latents import text_pieces
from temporal_saes.pages.token_colours import token, visible

SIDES = ("chosen", "rejected")
MAX_PIECES = 160  # of an answer; more is too long to take in
PROMPT_CHARACTERS = 300
N_COMPARED = 5  # top latents of each run in a comparison
Result = Mapping[str, Any]


def study_page(result: Result, shown: Mapping[int, Shown], figure: bytes) -> str:
    """The page about one subject.

    Args:
        shown: examples of the top latents, by number; empty for dense activations.
        figure: the PNG of `alignment_figures.draw_study`.
    """
    body = [
        element("h1", f"Chosen against rejected answers: {label(result)}"),
        page.facts(_facts(result)),
        _warning(result),
        *_findings(result),
        element("h2", "Length and other surface features"),
        *_surface(result),
        element("h2", "All latents at a glance"),
        *_figure(figure),
        element("h2", "Latents that differ most"),
        *_top_tables(result),
        *_examples(result, shown),
        *_method(result),
        *_foot([result]),
    ]
    return page.page(f"Alignment study: {result['name']}", body)


def comparison_page(results: Sequence[Result], figure: bytes) -> str:
    """The page about several subjects on the same pairs.

    Args:
        figure: the PNG of `alignment_figures.draw_comparison`.
    """
    first = results[0]
    body = [
        element("h1", "Chosen against rejected answers, side by side"),
        page.facts(_data_facts(first)),
        _warning(first),
        element("h2", "Length and other surface features"),
        *_surface(first),
        element("h2", "Latents that differ"),
        page.image(
            figure,
            "png",
            alt="Effects of all tested latents, how many differ by view, and how far length predicts them.",
            caption="Left: effect size of every tested latent, significant ones ringed; the lines are what "
            "a single effect needs to be significant, and many together need less. Middle: share of tested "
            "latents whose difference is significant, with their number. Right: share of the squared effect "
            "sizes that length alone predicts (d_z = r · d_z of length); below 0 it predicts wrongly.",
            wide=True,
        ),
        page.table(
            ["", "tested", *(VIEW_NAMES[view] for view in VIEWS), "length latents", "largest |d_z|"],
            [_compared(result) for result in results],
            f"Latents with q ≤ {first['options']['fdr']:g}; in brackets how many of them are length latents.",
        ),
        _cells_told(first),
        *(part for result in results for part in _compared_latents(result)),
        *_method(first),
        *_foot(results),
    ]
    return page.page("Alignment study: comparison", body)


# --- what it is about ---


def _facts(result: Result) -> list[tuple[str, object]]:
    subject = result["subject"]
    return [
        ("Dictionary", f"{subject['run_name']}, {subject['dict_class']}, {subject['split']} latents"),
        ("Language model", f"{subject['model']}, layer {subject['layer']}"),
        *_data_facts(result),
        ("Tested", _latents_told(result)),
    ]


def _data_facts(result: Result) -> list[tuple[str, object]]:
    pairs, options = result["pairs"], result["options"]
    skipped = ", ".join(f"{n:,} {reason}" for reason, n in pairs["skipped"].items())
    parts = [options["dataset"], options["data_path"], options["subset"], options["split"]]
    return [
        ("Data", ", ".join(str(part) for part in parts if part)),
        ("Pairs", f"{pairs['used']:,} with {pairs['prompts']:,} prompts"),
        ("Skipped", skipped),
        (
            "Answers whose end did not fit the context",
            f"{pairs['answers_cut']:,}" if pairs["answers_cut"] else None,
        ),
    ]


def _warning(result: Result) -> Html | None:
    """What a reader of the demo's pairs must not conclude."""
    if not _is_demo(result):
        return None
    return element(
        "p",
        "These pairs were written for the demo, by one writer and with longer rejected answers on purpose. "
        "They show how the study works, and say nothing about what people or models prefer.",
    )


def _latents_told(result: Result) -> str:
    return (
        f"{units(result, result['n_latents'])}, {result['n_active']:,} active in some answer; tested are "
        f"{result['n_tested']:,} that differ at all in {result['options']['min_active']} pairs or more"
    )


# --- what came out ---


def _findings(result: Result) -> list[Html]:
    return [element("ul", *(element("li", sentence) for sentence in _sentences(result)))]


def _sentences(result: Result) -> Iterator[str]:
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
        f"{length['rejected']:.2f} (paired t, p = {_p(length['p'])}); the chosen one is longer in "
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


def _surface(result: Result) -> list[Html]:
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
        numbers = [f"{row['chosen']:.3g}", f"{row['rejected']:.3g}", interval, _signed(row["effect"])]
        q = _strong(_p(row["q"]), row["q"] <= result["options"]["fdr"])
        more = f"{row['n_more']:,} / {row['n_less']:,}"
        rows.append([name, *numbers, _p(row["p"]), _p(row["p_wilcoxon"]), q, more])
    caption = (
        "Chosen minus rejected, paired. p of a t test and of Wilcoxon's signed ranks; q is Benjamini and "
        "Hochberg's over these rows, bold where it counts; more / less: pairs in which the chosen answer has "
        "more, less."
    )
    return [page.table(headers, rows, caption)]


def _figure(figure: bytes) -> list[Html]:
    caption = (
        "Left: difference in length of every pair (the outermost bars hold all beyond), dashed the mean. "
        "Middle: each tested latent by how its difference goes with the difference in length (r) and by its "
        "effect size; on the dashed line lies a latent that differs only because length does, the distance "
        "from it is what is left at equal length. Right: latents that differ, by view, and the pairs of each."
    )
    return [
        page.image(
            figure, "png", alt="Length, effects and counts; see the caption.", caption=caption, wide=True
        )
    ]


# --- the latents ---


def _top_tables(result: Result) -> list[Html]:
    tables = [_top_table(result, side, len(result["top"][side])) for side in SIDES]
    return [_cells_told(result), *tables]


def _cells_told(result: Result) -> Html:
    ranked = {
        "effect": "d_z",
        "difference": "mean difference",
        "equal_length": "d_z at equal length",
    }[result["options"]["rank_by"]]
    return element(
        "p",
        f"The latents of the tables are ranked by {ranked}. A cell of a view has d_z and q, bold where q ≤ "
        f"{result['options']['fdr']:g}. “by flips” is the p corrected for all latents by flipping the signs "
        "of whole pairs. r is the correlation with the difference in length.",
    )


def _top_table(result: Result, side: str, n: int) -> Html:
    latents = result["top"][side][:n]
    if not latents:
        return element("p", f"No tested latent is higher in {side} answers.", class_="quiet")
    views = [view for view in VIEWS if latents[0][view] is not None]
    headers = [f"higher in {side}", "chosen", "rejected", "difference", *(VIEW_NAMES[view] for view in views)]
    rows = []
    for latent in latents:
        means = [f"{latent[one]:.3g}" for one in SIDES]
        cells = [_view_cell(latent[view]) for view in views]
        r = f"{latent['length_r']:+.2f}" + (" length" if latent["is_length_latent"] else "")
        difference = f"{latent['raw']['difference']:+.3g}"
        flips = _p(latent["p_sign_flips"])
        rows.append(
            [_named(latent), *means, difference, *cells, flips, _strong(r, latent["is_length_latent"])]
        )
    return page.table([*headers, "by flips", "r"], rows, f"Latents that are higher in {side} answers.")


def _named(latent: Mapping[str, Any]) -> Html:
    aid = latent["explanation"]
    if aid is None and latent["strongest"]:
        aid = "strongest at " + ", ".join(visible(text.strip() or text) for text in latent["strongest"])
    return join([latent["latent"], element("span", aid, class_="aid") if aid else None])


def _view_cell(effect: Mapping[str, Any]) -> Html:
    return _strong(f"{_signed(effect['effect'])}, {_p(effect['q'])}", effect["significant"])


def _examples(result: Result, shown: Mapping[int, Shown]) -> list[Html]:
    title = element("h2", "On examples")
    if not shown:
        note = (
            "Dense activations are never off, so that colours would show nothing."
            if _is_dense(result)
            else ""
        )
        return [title, element("p", note or "No examples were asked for.", class_="quiet")]
    parts = [
        title,
        element(
            "p",
            "The pairs in which each latent differs most in its direction: chosen to show what it does, not "
            "how often. Only the answer is coloured, the stronger the larger the activation (its value shows "
            "under the pointer), on one scale for all examples of a latent.",
        ),
    ]
    if not _is_demo(result):
        parts.append(
            element("p", "Quoted from the data set as it is; it may hold offensive text.", class_="quiet")
        )
    for side in SIDES:
        parts += [element("h3", f"Higher in {side} answers"), _panels(result, side, shown)]
    return parts


def _panels(result: Result, side: str, shown: Mapping[int, Shown]) -> Html:
    panels = [_panel(latent, side, shown[latent["latent"]]) for latent in result["top"][side]]
    return element("div", *panels, class_="panels")


def _panel(latent: Mapping[str, Any], side: str, shown: Shown) -> Html:
    raw, length = latent["raw"], latent["equal_length"]
    numbers = (
        f"On in {latent['active_chosen']:.0%} of chosen and {latent['active_rejected']:.0%} of rejected "
        f"answers; mean {latent['chosen']:.3g} and {latent['rejected']:.3g}; d_z {_signed(raw['effect'])} "
        f"(q = {_p(raw['q'])})"
    )
    if length is not None:
        numbers += f", at equal length {_signed(length['effect'])} (q = {_p(length['q'])})"
    flag = f"A length latent: r = {latent['length_r']:+.2f}." if latent["is_length_latent"] else None
    peak = max(
        (float(answer.value_T.max()) for one in shown.examples for answer in _answers(one)), default=0.0
    )
    examples = [_example(one, peak, number) for number, one in enumerate(shown.examples)]
    return element(
        "section",
        element("h4", f"Latent {latent['latent']}"),
        element("p", latent["explanation"]) if latent["explanation"] else None,
        element("p", f"{numbers}.", class_="quiet"),
        element("p", element("strong", flag)) if flag else None,
        element("p", "Strongest at ", *_codes(latent["strongest"]), class_="quiet"),
        *examples,
        class_=f"panel {side}",
    )


def _codes(texts: Sequence[str]) -> Iterator[object]:
    for number, text in enumerate(texts):
        yield ", " if number else None
        yield element("code", visible(text))


def _example(example: Example, peak: float, number: int) -> Html:
    inside: list[object] = [element("p", _prompt_end(example.pair.prompt), class_="quiet")]
    for side, answer in zip(SIDES, _answers(example), strict=True):
        told = f"{side}: mean {answer.mean:.3g} over {len(answer.value_T):,} tokens"
        inside.append(
            element("p", element("span", told, class_="part"), *_coloured(answer, peak), class_="tokens")
        )
    if number == 0:
        return element("div", *inside)
    means = " against ".join(f"{answer.mean:.3g}" for answer in _answers(example))
    return element("details", element("summary", f"another pair: {means}"), *inside)


def _answers(example: Example) -> tuple[Answer, Answer]:
    return example.chosen, example.rejected


def _prompt_end(prompt: str) -> str:
    end = prompt.strip()
    return visible(end if len(end) <= PROMPT_CHARACTERS else "…" + end[-PROMPT_CHARACTERS:])


def _coloured(answer: Answer, peak: float) -> Iterator[object]:
    text, start = answer.text.text, answer.text.start
    pieces = text_pieces(text, answer.tokens, answer.position_T, answer.value_T)
    of_answer = [piece for piece in pieces if piece.start + len(piece.text) > start]
    yield from (token(piece, peak or 1.0) for piece in of_answer[:MAX_PIECES])
    if len(of_answer) > MAX_PIECES or of_answer[-1].start + len(of_answer[-1].text) < len(text):
        yield "…"


def _compared(result: Result) -> list[object]:
    cells: list[object] = [label(result), f"{result['n_tested']:,}"]
    for view in VIEWS:
        told = result["views"][view]
        cells.append("–" if "missing" in told else f"{told['significant']:,} ({told['length_latents']:,})")
    largest = result["views"]["raw"]["largest_effect"]
    return [*cells, f"{result['n_length_latents']:,}", "∞" if largest is None else f"{largest:.2f}"]


def _compared_latents(result: Result) -> list[Html]:
    return [
        element("h2", f"{label(result)}: latents that differ most"),
        *(_top_table(result, side, N_COMPARED) for side in SIDES),
    ]


# --- how it was done ---


def _method(result: Result) -> list[Html]:
    options, views = result["options"], result["views"]
    held = ", ".join(result["surface_view_holds_equal"])
    missing = [f"{VIEW_NAMES[view]}: {views[view]['missing']}" for view in VIEWS if "missing" in views[view]]
    points = [
        "A latent's value for an answer is its mean over the answer's tokens. Read and not counted are the "
        "prompt, special tokens and tokens of outlying norm.",
        "Tested is the mean of chosen minus rejected over the pairs, by the paired t test: it is about the "
        "mean that is reported, and its intercept form controls for confounds. d_z is that mean by the "
        "standard deviation of the differences. Differences need not be normal when there are many; the "
        f"p by flips ({options['n_flips']:,} random signs of whole pairs) needs no distribution at all.",
        "At equal length: the intercept of a regression of the differences on the difference in tokens, with "
        "standard errors that hold when long answers scatter more (HC2). The tie is taken to be linear.",
        f"At equal surface: the same with {held} held equal at once.",
        f"Matched pairs: only those whose lengths differ by at most {options['length_tolerance']:.0%}; the "
        "honest check of the regression, and the weakest test, as few pairs are left.",
        f"A length latent has |r| ≥ {options['length_correlation']:g} with the difference in length, "
        f"significantly (q ≤ {options['fdr']:g}).",
        "A difference says what goes with a preference, not what causes it. Control for what can be counted "
        "does not control for topic or style, and pairs that share a prompt are not independent.",
        "The paper (arXiv 2511.05541, first 1,000 pairs of HH-RLHF harmless-base) finds rejected answers "
        "longer, 49.24 against 37.84 tokens (p = 9e-10), its largest mean differences of a latent .1665 and "
        ".0985, and names length as the spurious feature.",
    ]
    if missing:
        points.append(f"Not tested here: {'; '.join(missing)}.")
    return [element("h2", "How to read this"), element("ul", *(element("li", point) for point in points))]


def _foot(results: Sequence[Result]) -> list[Html]:
    made = results[0]["provenance"]
    commands = dict.fromkeys(result["provenance"]["command"] for result in results)
    parts = [
        element("h2", "How this page was made"),
        page.commands(commands),
        element("p", f"Written {made['started']}, git revision {made['git_revision']}.", class_="quiet"),
    ]
    if "demo" in {result["subject"]["model"] for result in results}:
        told = "The demo's language model is SmolLM2-135M-Instruct by Hugging Face (Apache License 2.0)."
        parts.append(element("p", told, class_="quiet"))
    return parts


# --- numbers ---


def _is_demo(result: Result) -> bool:
    return result["options"]["dataset"] == "demo" and result["options"]["data_path"] is None


def _is_dense(result: Result) -> bool:
    return result["subject"]["trainer_folder"] is None


def _strong(text: str, is_strong: bool) -> Html:
    return element("strong", text) if is_strong else page.markup(text)


def _signed(value: float | None) -> str:
    return "∞" if value is None else f"{value:+.2f}"


def _p(value: float) -> str:
    """A p or q with two digits."""
    return f"{value:.2g}" if value >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")
