"""The page: what it says, that it needs no network, and that nothing in a run folder can act in it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState
from plotly.offline import get_plotlyjs
from synthetic_runs import RESULT, SPACE, four_trials, numbered, trial, write_run

from prunetune.errors import InputError
from prunetune.report import load_run, write_report
from prunetune.report.page import render

MakeRun = Callable[..., Path]
FIVE_MB = 5_000_000


class Page(HTMLParser):
    """The parts of a page that the tests ask about."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self._in: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._in.append(tag)
            self.scripts.append((dict(attrs), "")) if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        if self._in and self._in[-1] == tag:
            self._in.pop()

    def handle_data(self, data: str) -> None:
        if not self._in:
            self.words.append(data)
        elif self._in[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def script(self, name: str) -> str:
        (found,) = [text for attributes, text in self.scripts if attributes.get("id") == name]
        return found


def figures_of(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(page.script("figures"))))["figures"]
    return found


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(write_run(tmp_path_factory.mktemp("runs") / "demo", RESULT, four_trials()))


def test_the_answer_comes_first(page: Page) -> None:
    top = page.text[: page.text.index("What was cut", page.text.index("The answer"))]
    assert "Trial 1 won: the best of 3 on the full network, which went up from 5 configurations." in top
    assert (
        "The search cost 5.25 full trainings (52 s) as measured, the winner's own included; "
        "what is no training (cutting, timing, storage, reports) is not counted." in top
    )  # of 10 s each
    for said in ("lr 0.2", "optimizer sgd", "validation score 0.95", "test accuracy 0.972"):
        assert said in top
    assert "time to tune 1 min 30 s" in top  # 1.5 + 0.5 + 60 + 28
    assert "customary search ≈ 4 min an estimate" in top
    assert "The time of the customary search is an estimate: 24 full trainings, each as long as the winner's." in top
    assert "saved (estimate) 2 min 30 s 2.7 times faster" in top  # 240 - 90; 240 / 90


def test_the_evidence(page: Page) -> None:
    assert "conv1 64 x 3 x 3 x 3 10 x 3 x 3 x 3 1,728 270 15.6 %" in page.text
    assert "FLOPs 1 M 50 k 5.0 % 20 times" in page.text
    assert "step time 200 ms 50 ms 25.0 % 4 times" in page.text
    assert "Rank correlation of the two scores (Spearman): 0.50" in page.text
    assert "output the model returns it" in page.text
    assert "prunetune run config.toml --out runs/demo" in page.text
    assert "0.0001 to 1, on a logarithmic scale" in page.text
    assert "ZeroDivisionError: <b>oops</b>" in page.text
    assert "Importances need at least 4 complete trials; there are 2 so far." in page.text


def test_no_network(page: Page) -> None:
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "action", "poster", "data"):
            assert name not in attributes, (tag, name)
        if "href" in attributes:
            assert (attributes["href"] or "").startswith(("#", "data:,")), tag
    assert not re.search(r"url\(|@import", page.source)
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


def test_policy_names_exactly_the_two_scripts(page: Page) -> None:
    packed = base64.b64decode(page.script("plotly"))
    plotly = gzip.decompress(packed).decode("utf-8")
    assert plotly == get_plotlyjs()
    (own,) = [text for attributes, text in page.scripts if "type" not in attributes]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (own, plotly)]
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert re.search(r"script-src ([^;]*);", policy)[1] == " ".join(f"'sha256-{each}'" for each in hashes)  # type: ignore[index]


def test_readable_without_pictures(page: Page) -> None:
    plots = [attributes for attributes in page.all("div") if attributes.get("class") == "plot"]
    figures = figures_of(page)
    assert {plot["id"] for plot in plots} == set(figures)
    assert len(plots) >= 12
    for plot in plots:
        assert plot["role"] == "img"
        assert len(plot["aria-label"] or "") > 30
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert (link["href"] or "")[1:] in ids
    assert len(page.all("table")) >= 10
    assert page.all("html")[0]["lang"] == "en"


def test_every_number_of_a_picture_is_in_a_table(page: Page) -> None:
    assert "0 complete 0.8 3" in page.text
    assert "2 stopped early 0.2 2" in page.text
    assert "3 diverged 0.1 1" in page.text
    assert "rung 1 1 min train in full 28 s everything else 10 s total 1 min 40 s" in page.text


EVIL = "</script><script>document.title='pwned'</script><img src=x onerror=alert(1)>{{ 7*7 }}<!--"


def evil_run(make_run: MakeRun) -> Path:
    text = json.dumps(RESULT)
    for innocent in ("conv1", "synflow", "some cpu", "the model returns it", '"lr"', "sgd", "as long as the winner"):
        bare = innocent.strip('"')
        text = text.replace(bare, bare + EVIL.replace('"', '\\"'))
    name = f"momentum{EVIL}%{{x}}"
    trials = [
        trial(TrialState.COMPLETE, {"lr": 0.1 * (i + 1), "momentum": i / 10}, i / 10, [0.1, i / 10]) for i in range(6)
    ]
    for each in trials:
        each.params = {"lr": each.params["lr"], name: each.params["momentum"]}
        each.distributions = {"lr": SPACE["lr"], name: FloatDistribution(0, 1)}
    trials.append(trial(TrialState.FAIL, {}, outcome="failed", message=EVIL))
    trials.append(trial(TrialState.FAIL, {}, outcome=EVIL, message=[EVIL]))
    return make_run(json.loads(text), trials, name="<b>bold & <script>")


def test_names_cannot_act(make_run: MakeRun) -> None:
    page = page_of(evil_run(make_run))
    assert len(page.scripts) == 3  # the figures, plotly, and the page's own
    assert not page.all("img")
    assert not page.all("b")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "{{ 7*7 }}" in page.text
    assert "<!--" not in page.source
    assert "document.title='pwned'" in page.text  # shown as what it is
    for figure in figures_of(page).values():
        for text in strings(figure):
            assert not re.search(r"<(?!b>|/b>|br>)", text), text  # plotly reads tags: only ours are left


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    return [text for item in value for text in strings(item)] if isinstance(value, list) else []


def test_small_enough_with_many_trials_and_layers(make_run: MakeRun, result: dict[str, Any]) -> None:
    result["pruning"]["layers"] = [
        {
            "name": f"features.denseblock{i // 50}.denselayer{i % 50}.conv",
            "before": [128, 512, 3, 3],
            "after": [9, 9, 3, 3],
        }
        for i in range(200)
    ]
    result["pruning"]["frozen"] = [{"node": f"node_{i}", "reason": "no rule " * 20} for i in range(5000)]
    params = {"lr": 0.123456789, "momentum": 0.987654321, "batch_size": 100, "optimizer": "adam"}
    score = random.Random(0).random
    trials = [trial(TrialState.COMPLETE, params, score(), [score() for _ in range(50)]) for _ in range(3000)]
    page = render(replace(load_run(make_run(result)), trials=numbered(trials)))
    assert len(page.encode("utf-8")) < FIVE_MB
    assert "The first 500 of 3,000 rows." in page


@pytest.mark.parametrize("trials", [None, [], four_trials()[4:]])
def test_a_run_that_has_nothing_yet(make_run: MakeRun, trials: list[Any] | None) -> None:
    page = page_of(make_run({"format": 1, "status": "searching"}, trials))
    assert "This run has not finished: it is still searching, or was stopped while it did." in page.text
    assert "No trial has been completed, so there are no best hyperparameters yet." in page.text
    assert "Nothing has been trained on the full network yet." in page.text
    assert ("There is no study.log in the run folder" in page.text) == (trials is None)


def test_the_best_so_far_is_named(make_run: MakeRun) -> None:
    page = page_of(make_run({"format": 1, "status": "searching"}, four_trials()))
    assert "Trial 0 is the best on rung 1 so far; nothing has been decided on the full network." in page.text
    assert "validation score 0.8 on rung 1" in page.text


def test_the_first_rungs_score_is_not_sold_as_the_full_networks(make_run: MakeRun, result: dict[str, Any]) -> None:
    result.update(status="confirming", winner=None)
    page = page_of(make_run(result, four_trials()))
    assert "validation score 0.8 on rung 1" in page.text
    assert "time so far 1 min 30 s" in page.text


def test_one_trial(make_run: MakeRun, result: dict[str, Any]) -> None:
    page = page_of(make_run(result, four_trials()[:1]))
    assert "Parallel coordinates need at least two complete trials." in page.text
    assert "figure-search_history" in figures_of(page)


def test_one_training_in_full_and_a_loss_of_time_are_said(make_run: MakeRun, result: dict[str, Any]) -> None:
    result.update(confirm=1, confirmation=result["confirmation"][:1], winner={"trial": 0, "params": {}, "score": 0.9})
    result["time"].update(search_on_base_estimate=45.0)
    page = page_of(make_run(result, four_trials()))
    assert "Trial 0 won: the only one of 5 configurations that went up the whole ladder" in page.text
    assert "score on rung 1 against" not in page.text  # one point is no picture
    assert "validation score 0.9 on the full network" in page.text
    assert "lost (estimate) 45 s 2 times slower: no gain here" in page.text  # 90 against 45


def test_a_failed_run_says_why(make_run: MakeRun, result: dict[str, Any]) -> None:
    result.update(status="failed", error="SearchError: <i>all</i> failed", winner=None, confirmation=[])
    result["time"].update(search_on_base_estimate=None, estimate_basis="no configuration ran on both networks")
    page = page_of(make_run(result, four_trials()))
    assert "This run failed. What it had recorded by then is below." in page.text
    assert "It ended with SearchError: <i>all</i> failed." in page.text
    assert "no estimate of the customary search: no configuration ran on both networks." in page.text


def test_nothing_else_in_the_folder_changes(make_run: MakeRun, result: dict[str, Any]) -> None:
    folder = make_run(result, four_trials())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_report(folder)
    write_report(folder)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after.pop("report.html")
    assert after == before


def test_links_in_the_folder_are_not_followed(make_run: MakeRun, result: dict[str, Any], tmp_path: Path) -> None:
    folder = make_run(result)
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    for name in ("report.html", ".writing-report.html"):
        (folder / name).symlink_to(precious)
    path = write_report(folder)
    assert precious.read_text() == "keep me"
    assert not path.is_symlink()


@pytest.mark.parametrize("name", ["study.log", "study.db"])
@pytest.mark.parametrize(
    "contents", [b"", b"no journal\n", b"{}\n", b'{"op_code": 4}\n', b"SQLite format 3\0" + bytes(200), b"\n"]
)
def test_broken_studies_are_told_of(make_run: MakeRun, result: dict[str, Any], name: str, contents: bytes) -> None:
    folder = make_run(result)
    (folder / name).write_bytes(contents)
    assert re.search(r"The studies could not be read|There is no study named “search”", page_of(folder).text)


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        (None, r"cannot read .*result\.json \(No such file or directory\); give the folder of a prunetune run"),
        ("[]", r"is not a result\.json of prunetune: the file: "),
        ("{", r"is not a result\.json of prunetune: the file: Expecting property name"),
        ('{"format": 2}', r"has format 2; this prunetune reads format 1"),
        ('{"format": 1, "cost": {"base": {"flops": "many"}}}', r"cost\.base\.flops: Input should be a valid integer"),
        ('{"format": 1, "direction": "up"}', r"direction: Input should be 'maximize' or 'minimize'"),
    ],
)
def test_a_folder_that_is_no_run(tmp_path: Path, contents: str | None, sentence: str) -> None:
    if contents is not None:
        (tmp_path / "result.json").write_text(contents)
    with pytest.raises(InputError, match=sentence) as error:
        load_run(tmp_path)
    assert "\n" not in str(error.value)


def test_importing_is_cheap() -> None:
    code = "import sys, prunetune.report; print({'plotly', 'optuna', 'jinja2', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
