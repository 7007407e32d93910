"""The pages of the alignment study: one subject with its latents on examples, and several side by side."""

from collections.abc import Mapping, Sequence

from temporal_saes.alignment.differences import VIEWS
from temporal_saes.alignment.examples import Shown
from temporal_saes.alignment.findings import sentences, surface_table
from temporal_saes.alignment.latent_panels import cells_told, examples_section, top_table, top_tables
from temporal_saes.alignment.result import VIEW_NAMES, units
from temporal_saes.alignment.wording import POOLED, SIDES, Result, is_demo
from temporal_saes.experiment.results import label, model_and_place
from temporal_saes.pages import page
from temporal_saes.pages.page import Html, element

N_COMPARED = 5  # top latents of each run in a comparison
_ATTRIBUTION = {
    "demo": "The demo's language model is SmolLM2-135M-Instruct by Hugging Face (Apache License 2.0).",
    "demo-gemma": "Gemma 3 270M by Google is provided under and subject to the Gemma Terms of Use.",
}


def study_page(result: Result, shown: Mapping[int, Shown], figure: bytes) -> str:
    """The page about one subject.

    Args:
        shown: examples of the top latents, by number; empty for dense activations.
        figure: the PNG of `figure.draw_study`.
    """
    body = [
        element("h1", f"Chosen against rejected answers: {label(result)}"),
        page.facts(_facts(result)),
        _warning(result),
        *_findings(result),
        element("h2", "Length and other surface features"),
        *surface_table(result),
        element("h2", "All latents at a glance"),
        *_figure(figure),
        element("h2", "Latents that differ most"),
        *top_tables(result),
        *examples_section(result, shown),
        *_method(result),
        *_foot([result]),
    ]
    return page.page(f"Alignment study: {result['name']}", body)


def comparison_page(results: Sequence[Result], figure: bytes) -> str:
    """The page about several subjects on the same pairs.

    Args:
        figure: the PNG of `figure.draw_comparison`.
    """
    first = results[0]
    body = [
        element("h1", "Chosen against rejected answers, side by side"),
        page.facts(_data_facts(first)),
        _warning(first),
        element("h2", "Length and other surface features"),
        *surface_table(first),
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
        cells_told(first),
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
        ("Language model", model_and_place(subject)),
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
    if not is_demo(result):
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
    return [element("ul", *(element("li", sentence) for sentence in sentences(result)))]


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
        *(top_table(result, side, N_COMPARED) for side in SIDES),
    ]


# --- how it was done ---


def _method(result: Result) -> list[Html]:
    options, views = result["options"], result["views"]
    held = ", ".join(result["surface_view_holds_equal"])
    missing = [f"{VIEW_NAMES[view]}: {views[view]['missing']}" for view in VIEWS if "missing" in views[view]]
    points = [
        f"A latent's value for an answer is {POOLED[options.get('pool', 'turn')]}. Read and not counted are "
        "the prompt, special tokens and tokens of outlying norm.",
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
    models = {result["subject"]["model"] for result in results}
    parts += [element("p", told, class_="quiet") for name, told in _ATTRIBUTION.items() if name in models]
    return parts
