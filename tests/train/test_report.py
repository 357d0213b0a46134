import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.edge_runtime.page_pictures import chromium
from train.advice import advice
from train.charts import interval_bar, line_chart, percent, reliability_chart
from train.corpus import Corpus, load_corpus
from train.evaluate import evaluate
from train.metrics import wilson_interval
from train.report import worst_mistakes, write_report
from transom.dataset import read_dataset, write_dataset

HISTORY = [
    {"epoch": 1.0, "state loss": 0.9, "state accuracy": 0.5, "learning rate": 1e-3},
    {"epoch": 2.0, "state loss": 0.4, "state accuracy": 0.8, "learning rate": 1e-4},
    {"epoch": 3.0, "state loss": float("nan"), "state accuracy": 0.9, "learning rate": 0.0},
]


@pytest.fixture
def corpus(make_dataset) -> Corpus:
    folder = make_dataset(groups=12, splits=("train", "train", "val"))
    dataset = read_dataset(folder)
    wrong = {"images/2-0.png": "open", "images/2-1.png": "closed", "images/5-0.png": "open"}
    rows = [
        replace(row, labels={**row.labels, "state": wrong.get(row.image, row.labels["state"])})
        for row in dataset.rows
    ]
    write_dataset(folder, name="tiny", tasks=dataset.tasks, rows=rows)
    return load_corpus([folder], size=32, margin=0.0)


class _Page(HTMLParser):
    """What a browser would fetch, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs) -> None:
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text += data


def _page(corpus: Corpus, predictor, path: Path, **options: object) -> _Page:
    evaluations = {s: evaluate(predictor, corpus.split(s)) for s in ("train", "val")}
    write_report(
        path,
        **{
            "title": "Run <hall>",
            "evaluations": evaluations,
            "history": HISTORY,
            "corpus": corpus,
            "recipe": {"epochs": 3, "backbone": "tiny"},
            **options,
        },
    )
    page = _Page()
    page.feed(path.read_text("utf-8"))
    assert page.open == []
    return page


def test_the_page_needs_nothing_beside_itself(corpus, gap_predictor, tmp_path: Path) -> None:
    page = _page(corpus, gap_predictor, tmp_path / "report.html")
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    text = (tmp_path / "report.html").read_text()
    assert "url(" not in text
    assert "<script" not in text
    assert "Run &lt;hall&gt;" in text


def test_the_headline_says_how_many_of_100_are_right(corpus, gap_predictor, tmp_path) -> None:
    page = _page(corpus, gap_predictor, tmp_path / "report.html")
    accuracy = evaluate(gap_predictor, corpus.split("val")).tasks["state"].figures["accuracy"]
    assert accuracy < 1
    assert f"the state right on {100 * accuracy:.0f}" in page.text
    assert "of 100 pictures kept aside while training" in page.text


def test_the_page_shows_every_figure_of_a_task_that_was_judged(
    corpus, gap_predictor, tmp_path: Path
) -> None:
    page = _page(corpus, gap_predictor, tmp_path / "report.html")
    sections = ("What to do next", "Task: state", "Task: kind", "Worst mistakes", "Hardest groups")
    for section in (*sections, "How it learnt", "What it was made from", "Recipe"):
        assert section in page.text
    assert "Task: mood" not in page.text
    assert corpus.digest in page.text
    state = evaluate(gap_predictor, corpus.split("val")).tasks["state"]
    assert percent(state.figures["balanced_accuracy"], 1) in page.text


def test_worst_mistakes_are_the_surest_ones_one_of_each_group(corpus, gap_predictor) -> None:
    evaluation = evaluate(gap_predictor, corpus.split("val"))
    rows = worst_mistakes("state", evaluation, 10)
    groups = [evaluation.corpus.groups[row] for row in rows]
    assert set(groups) == {"tiny/g2", "tiny/g5"}
    assert len(groups) == 2
    sure = evaluation.tasks["state"].prediction.probabilities.max(axis=1)[rows]
    assert sure[0] >= sure[1]


def test_a_report_without_history_or_recipe_has_no_such_section(
    corpus, gap_predictor, tmp_path: Path
) -> None:
    page = _page(corpus, gap_predictor, tmp_path / "report.html", history=(), recipe={})
    assert "How it learnt" not in page.text
    assert "Recipe" not in page.text


def test_refuses_a_report_of_nothing(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one evaluation"):
        write_report(
            tmp_path / "r.html", title="", evaluations={}, history=(), corpus=corpus, recipe={}
        )


def test_advice_names_the_class_that_few_groups_show(corpus, gap_predictor) -> None:
    evaluations = {"val": evaluate(gap_predictor, corpus.split("val"))}
    said = advice(evaluations, "val")
    assert 1 <= len(said) <= 5
    assert any("Only 2 groups here show it for <em>kind</em>" in text for text in said)


@pytest.mark.parametrize(
    ("kept", "words"),
    [(("g2",), "Only 1 group here shows it for"), ((), "No group here shows it for")],
)
def test_advice_counts_one_group_and_none_in_words(
    corpus: Corpus, gap_predictor, kept: tuple[str, ...], words: str
) -> None:
    judged = corpus.split("val")
    evaluation = evaluate(gap_predictor, judged)
    kind = evaluation.tasks["kind"]
    is_kept = np.isin(judged.groups, [f"tiny/{name}" for name in kept])
    others = 1 + np.arange(len(is_kept)) % (len(kind.spec.classes) - 1)
    targets = np.where(is_kept, 0, others)
    tasks = {**evaluation.tasks, "kind": replace(kind, targets=targets)}
    said = advice({"val": replace(evaluation, tasks=tasks)}, "val")
    assert any(words in text for text in said)


def test_the_tables_of_a_report_are_seen_whole_on_a_phone(
    corpus, gap_predictor, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"
    _page(corpus, gap_predictor, file)
    text = file.read_text("utf-8").replace("tiny/g", "living-room-2026-11-28/camera-")
    file.write_text(text, "utf-8")
    if not (shutil.which("chromium") or shutil.which("chromium-browser")):
        why = "chromium is not installed: apt-get install chromium"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 375, "height": 800})
        page.goto(file.as_uri())
        hidden = page.eval_on_selector_all(
            ".scroll", "all => all.map(one => one.scrollWidth - one.clientWidth)"
        )
        assert len(hidden) >= 5
        assert max(hidden) <= 0
        assert page.evaluate("document.documentElement.scrollWidth") == 375


def test_what_a_figure_means_stands_beside_it(corpus, gap_predictor, tmp_path: Path) -> None:
    page = _page(corpus, gap_predictor, tmp_path / "report.html")
    assert "found and not claimed wrongly" in page.text
    assert "a much photographed door counts once" in page.text


def test_a_curve_leaves_out_what_is_not_a_number() -> None:
    chart = line_chart({"loss": [(1, 0.5), (2, float("nan")), (3, 0.1)]}, "epoch")
    (points,) = re.findall(r'points="([^"]+)"', chart)
    assert len(points.split()) == 2
    assert "nan" not in chart
    assert line_chart({"loss": []}, "epoch") == ""


def test_charts_stay_inside_their_frame() -> None:
    charts = [
        line_chart({"a": [(1, 0.0), (40, 1.0)], "b": [(1, 1e-6)]}, "epoch", is_share=True),
        line_chart({"a": [(1, 123456.0), (2, 123457.0)]}, "epoch"),
        reliability_chart([(0.0, 1.0, 5), (1.0, 0.0, 1)]),
    ]
    for chart in charts:
        for x, y in re.findall(r'c?x="([\d.-]+)" c?y="([\d.-]+)"', chart):
            assert 0 <= float(x) <= 460
            assert 0 <= float(y) <= 280
    assert 'width="100.0"' in interval_bar(0.5, (0.4, 0.6))


@pytest.mark.parametrize(
    ("share", "n", "low", "high"), [(0.0, 10, 0.0, 0.2775), (0.5, 20, 0.2993, 0.7007)]
)
def test_the_interval_of_a_share_is_wilsons(share: float, n: int, low: float, high: float) -> None:
    assert wilson_interval(share, n) == pytest.approx((low, high), abs=1e-3)
