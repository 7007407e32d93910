"""The export bundle, put into the tables of Neuronpedia as its import puts it there.

`TABLES` are the columns of apps/webapp/prisma/schema.prisma at revision 008d504 that an import can fill, and
`Database` does what apps/webapp/app/api/admin/import/route.ts and lib/db/import.ts do with the files. The
first four go through Prisma, which takes no other field. Of the others the columns are read from the first
line, and the rest goes to PostgreSQL, which refuses what a column cannot hold, what is missing and what
points to nothing.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from temporal_saes.browser.folder import _files_of_others
from temporal_saes.latents.explanations import read_explanations

Row = dict[str, Any]

# type, then ? where it may be empty, or = where the database has a default
TABLES: dict[str, dict[str, str]] = {
    "SourceRelease": {
        "name": "text",
        "visibility": "visibility=",
        "isNewUi": "bool=",
        "featured": "bool=",
        "description": "text",
        "descriptionShort": "text?",
        "urls": "text[]=",
        "creatorEmail": "text?",
        "creatorName": "text",
        "creatorNameShort": "text?",
        "creatorId": "text",
        "defaultSourceSetName": "text?",
        "defaultSourceId": "text?",
        "defaultUmapSourceIds": "text[]=",
    },
    "Model": {
        "id": "text",
        "displayNameShort": "text=",
        "displayName": "text=",
        "creatorId": "text",
        "tlensId": "text?",
        "openRouterId": "text?",
        "dimension": "int?",
        "thinking": "bool=",
        "visibility": "visibility=",
        "inferenceEnabled": "bool=",
        "instruct": "bool=",
        "layers": "int",
        "neuronsPerLayer": "int",
        "owner": "text",
        "website": "text?",
    },
    "SourceSet": {
        "modelId": "text",
        "name": "text",
        "hasDashboards": "bool=",
        "allowInferenceSearch": "bool=",
        "visibility": "visibility=",
        "description": "text",
        "type": "text=",
        "creatorName": "text",
        "urls": "text[]=",
        "creatorEmail": "text?",
        "creatorId": "text",
        "releaseName": "text?",
        "similarityMatrixEnabled": "bool=",
        "defaultRange": "int=",
        "defaultShowBreaks": "bool=",
    },
    "Source": {
        "id": "text",
        "modelId": "text",
        "hasDashboards": "bool=",
        "inferenceEnabled": "bool=",
        "saelensRelease": "text?",
        "saelensSaeId": "text?",
        "hfRepoId": "text?",
        "hfFolderId": "text?",
        "visibility": "visibility=",
        "setName": "text",
        "creatorId": "text",
        "num_prompts": "int?",
        "num_tokens_in_prompt": "int?",
        "dataset": "text?",
        "notes": "text?",
    },
    "Neuron": {
        "modelId": "text",
        "layer": "text",
        "index": "text",
        "sourceSetName": "text?",
        "creatorId": "text?",
        "maxActApprox": "float?",
        "hasVector": "bool=",
        "vector": "float[]=",
        "vectorLabel": "text?",
        "vectorDefaultSteerStrength": "float?",
        "hookName": "text?",
        "topkCosSimIndices": "int[]=",
        "topkCosSimValues": "float[]=",
        "neuron_alignment_indices": "int[]=",
        "neuron_alignment_values": "float[]=",
        "neuron_alignment_l1": "float[]=",
        "correlated_neurons_indices": "int[]=",
        "correlated_neurons_pearson": "float[]=",
        "correlated_neurons_l1": "float[]=",
        "correlated_features_indices": "int[]=",
        "correlated_features_pearson": "float[]=",
        "correlated_features_l1": "float[]=",
        "neg_str": "text[]=",
        "neg_values": "float[]=",
        "pos_str": "text[]=",
        "pos_values": "float[]=",
        "frac_nonzero": "float=",
        "freq_hist_data_bar_heights": "float[]=",
        "freq_hist_data_bar_values": "float[]=",
        "logits_hist_data_bar_heights": "float[]=",
        "logits_hist_data_bar_values": "float[]=",
        "decoder_weights_dist": "float[]=",
    },
    "Explanation": {
        "id": "text",  # its default is Prisma's, which an import does not ask
        "modelId": "text",
        "layer": "text",
        "index": "text",
        "description": "text",
        "authorId": "text",
        "notes": "text?",
        "typeName": "text?",
        "explanationModelName": "text?",
    },
    "Activation": {
        "id": "text",
        "tokens": "text[]=",
        "dataIndex": "text?",
        "index": "text",
        "layer": "text",
        "modelId": "text",
        "dataSource": "text?",
        "maxValue": "float",
        "maxValueTokenIndex": "int",
        "minValue": "float",
        "values": "float[]=",
        "creatorId": "text",
        "binMin": "float?",
        "binMax": "float?",
        "binContains": "float?",
        "qualifyingTokenIndex": "int?",
    },
    "User": {"id": "text"},
    "ExplanationType": {"name": "text"},
    "ExplanationModelType": {"name": "text"},
}
KEYS = {
    "SourceRelease": ("name",),
    "Model": ("id",),
    "SourceSet": ("modelId", "name"),
    "Source": ("modelId", "id"),
    "Neuron": ("modelId", "layer", "index"),
    "Explanation": ("id",),
    "Activation": ("id",),
    "User": ("id",),
    "ExplanationType": ("name",),
    "ExplanationModelType": ("name",),
}
# a row is refused where the row that these columns name is not there
POINTS = [
    *(
        (table, ("creatorId",), "User")
        for table in ("SourceRelease", "Model", "SourceSet", "Source", "Neuron")
    ),
    ("SourceSet", ("modelId",), "Model"),
    ("SourceSet", ("releaseName",), "SourceRelease"),
    ("Source", ("modelId", "setName"), "SourceSet"),
    ("Neuron", ("modelId", "layer"), "Source"),
    ("Neuron", ("modelId", "sourceSetName"), "SourceSet"),
    ("Explanation", ("modelId", "layer", "index"), "Neuron"),
    ("Explanation", ("authorId",), "User"),
    ("Explanation", ("typeName",), "ExplanationType"),
    ("Explanation", ("explanationModelName",), "ExplanationModelType"),
    ("Activation", ("modelId", "layer", "index"), "Neuron"),
    ("Activation", ("creatorId",), "User"),
]
IS = {
    "text": lambda value: isinstance(value, str) and "\0" not in value,
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31,
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "visibility": lambda value: value in ("PUBLIC", "UNLISTED", "PRIVATE"),
}


class Database:
    """A fresh Neuronpedia's, with its user and the explainers that `config` brings."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[tuple[str, ...], Row]] = {table: {} for table in TABLES}
        self.put("User", {"id": "clkht01d40000jv08hvalcvly"})
        self.put("ExplanationType", {"name": "oai_token-act-pair"})
        self.put("ExplanationModelType", {"name": "a model"})

    def put(self, table: str, row: Row) -> None:
        for column, kind in TABLES[table].items():
            name, is_optional = kind.rstrip("?="), kind[-1] in "?="
            value = row.get(column)
            if value is None:
                assert is_optional, f"{table} needs {column}"
                assert column not in row or kind[-1] == "?", f"{column} of {table} cannot be empty"
                continue
            values = value if name.endswith("[]") else [value]
            assert isinstance(values, list)
            assert all(IS[name.removesuffix("[]")](one) for one in values), f"{column} of {table}: {value}"
        for here, columns, there in POINTS:
            key = tuple(row.get(column) for column in columns)
            if here == table and None not in key:
                assert key in self.rows[there], f"{columns} of {table} point to no {there}: {key}"
        self.rows[table].setdefault(
            tuple(row[column] for column in KEYS[table]), row
        )  # ON CONFLICT DO NOTHING

    def create(self, table: str, path: Path) -> None:
        """As Prisma does."""
        for row in lines(path.read_bytes()):
            assert row.keys() <= TABLES[table].keys()
            assert None not in row.values()
            self.put(table, row)

    def insert(self, table: str, folder: Path) -> None:
        """As `importJsonlString` does."""
        for path in sorted(folder.glob("*.jsonl.gz")):
            found = lines(gzip.decompress(path.read_bytes()))
            columns = found[0].keys() & TABLES[table].keys()
            for row in found:
                assert row.keys() == found[0].keys()
                assert row.keys() <= columns, "a column that the table does not have would be dropped"
                self.put(table, {column: row[column] for column in columns})

    def take(self, folder: Path) -> None:
        for table, name in (
            ("SourceRelease", "release"),
            ("Model", "model"),
            ("SourceSet", "sourceset"),
            ("Source", "source"),
        ):
            self.create(table, folder / f"{name}.jsonl")
        for table, name in (
            ("Neuron", "features"),
            ("Activation", "activations"),
            ("Explanation", "explanations"),
        ):
            self.insert(table, folder / name)

    def all(self, table: str) -> list[Row]:
        return list(self.rows[table].values())


def lines(content: bytes) -> list[Row]:
    text = content.decode()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


@pytest.fixture
def export(browser_for_neuronpedia: Path) -> Path:
    return browser_for_neuronpedia / "neuronpedia" / "export" / "tiny" / "2-toy-set"


@pytest.fixture
def database(export: Path) -> Database:
    made = Database()
    made.take(export)
    return made


@pytest.fixture(scope="module")
def batch(browser_for_neuronpedia: Path) -> Row:
    return json.loads((browser_for_neuronpedia / "neuronpedia" / "2-toy-set" / "batch-0.json").read_bytes())


def test_a_fresh_neuronpedia_takes_the_bundle(database: Database, batch: Row) -> None:
    assert len(database.all("Neuron")) == len(batch["features"])
    assert len(database.all("Activation")) == sum(len(one["activations"]) for one in batch["features"])
    (source,) = database.all("Source")
    assert (source["id"], source["setName"], source["modelId"]) == ("2-toy-set", "toy-set", "tiny")
    assert source["num_prompts"] == batch["features"][0]["n_prompts_total"]
    assert source["num_tokens_in_prompt"] == batch["features"][0]["n_tokens_in_prompt"]
    (model,) = database.all("Model")
    assert (model["layers"], model["dimension"], model["instruct"]) == (4, 32, False)
    (of_set,), (release,) = database.all("SourceSet"), database.all("SourceRelease")
    assert (of_set["creatorName"], of_set["releaseName"]) == ("me", release["name"])


def test_an_import_that_is_done_again_adds_nothing(database: Database, export: Path) -> None:
    before = {table: len(rows) for table, rows in database.rows.items()}
    database.take(export)
    assert {table: len(rows) for table, rows in database.rows.items()} == before


def test_features_have_the_numbers_of_the_batch_field_by_field(database: Database, batch: Row) -> None:
    facts = {one["index"]: one for one in database.all("Neuron")}
    for feature in batch["features"]:
        row = facts[str(feature["feature_index"])]
        kept = feature.keys() & row.keys()
        assert {name: row[name] for name in kept} == {name: feature[name] for name in kept}
        assert feature.keys() - kept == {
            "feature_index",
            "n_prompts_total",
            "n_tokens_in_prompt",
            "dataset",
            "activations",
        }
        assert row["hookName"] == "blocks.2.hook_resid_post"
        assert row["maxActApprox"] == max(max(one["values"]) for one in feature["activations"])
        nearest, cosines = row["topkCosSimIndices"], row["topkCosSimValues"]
        assert len(nearest) == len(cosines) > 0
        assert int(row["index"]) not in nearest
        assert cosines == sorted(cosines, reverse=True)


def test_activations_have_the_numbers_of_the_batch_field_by_field(database: Database, batch: Row) -> None:
    rows = iter(database.all("Activation"))
    for feature in batch["features"]:
        for one in feature["activations"]:
            row = next(rows)
            assert row["index"] == str(feature["feature_index"])
            assert (row["tokens"], row["values"]) == (one["tokens"], one["values"])
            assert (row["binMin"], row["binMax"], row["binContains"]) == (
                one["bin_min"],
                one["bin_max"],
                one["bin_contains"],
            )
            assert row["qualifyingTokenIndex"] == one["qualifying_token_index"]
            assert row["values"][row["maxValueTokenIndex"]] == row["maxValue"] == max(one["values"])
            assert row["minValue"] == min(one["values"])
            assert row["dataSource"] == feature["dataset"]
    assert next(rows, None) is None


def test_explanations_are_of_living_latents_and_whole(database: Database) -> None:
    (one,) = database.all("Explanation")
    assert (one["index"], one["description"], one["explanationModelName"]) == ("2", "x" * 600, "a model")


def test_explanations_are_read_back_from_the_bundle(export: Path) -> None:
    assert read_explanations(export, 96) == {2: "x" * 600}


def test_a_browser_with_a_bundle_is_known_as_one_and_can_be_replaced(browser_for_neuronpedia: Path) -> None:
    assert _files_of_others(browser_for_neuronpedia) == []


def test_the_database_refuses_what_does_not_fit(database: Database) -> None:
    feature, activation = database.all("Neuron")[0], database.all("Activation")[0]
    for table, row in (
        ("Neuron", {**feature, "index": 3}),
        ("Neuron", {**feature, "pos_values": ["a"]}),
        ("Activation", {**activation, "index": "95"}),
        ("Activation", {**activation, "maxValue": None}),
        ("Explanation", {**database.all("Explanation")[0], "typeName": "of our own"}),
    ):
        with pytest.raises(AssertionError):
            database.put(table, row)
