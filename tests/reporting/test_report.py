"""The page and the card say what the run folder's files say, safely, in one file."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from headstart._core.errors import BadInput
from headstart.reporting import write_report

RunOf = Callable[[str], Path]
CASES = ("ants-and-bees", "ten", "hundred", "labels", "hostile")
SECTIONS = (
    "decisions", "data", "accuracy", "confusion", "classes", "reliability", "curves", "mistakes", "ledger",
    "preprocessing", "licences", "environment", "use",
)  # fmt: skip
INLINE = {"bdi", "strong", "code", "span"}
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """The page's elements and its visible text; complains about tags that do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag
        if tag not in INLINE:
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(
            "".join(self.words).replace("\u00a0", " ").replace("\u2060", "").replace("\u2013", "-").split()
        )

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def edit(run: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    plain = json.loads((run / name).read_text(encoding="utf-8"))
    change(plain)
    (run / name).write_text(json.dumps(plain), encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_page_is_one_file_with_every_section(run_of: RunOf, case: str) -> None:
    path = write_report(run_of(case))
    assert path.name == "report.html"
    page = Page(path)
    for tag, attrs in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form")
        assert not [name for name in attrs if name.startswith("on")]
        if "src" in attrs:
            assert str(attrs["src"]).startswith("data:image/")
        if "href" in attrs:
            assert str(attrs["href"]).startswith("#")
    style = path.read_text(encoding="utf-8").split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert [name for name in ids if name != "top"] == list(SECTIONS)
    assert {attrs["href"] for attrs in page.all("a")} == {f"#{name}" for name in (*SECTIONS, "top")}
    assert all(attrs.get("alt") for attrs in page.all("img"))
    assert all(attrs.get("aria-label") for attrs in page.all("svg"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_drawings_stay_inside_their_frames(run_of: RunOf) -> None:
    for case in CASES:
        html = write_report(run_of(case)).read_text(encoding="utf-8")
        drawings = re.findall(r'<svg class="chart" viewBox="0 0 (\d+) (\d+)".*?</svg>', html, flags=re.S)
        assert len(drawings) >= 4
        assert "nan" not in "".join(re.findall(r'(?:cx|cy|points|x1|y1)="[^"]*"', html))
        for cx, cy in re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', html):
            assert 0 <= float(cx) <= 420
            assert 0 <= float(cy) <= 400


def test_verdict_and_tiles_repeat_the_evaluation(run_of: RunOf) -> None:
    run = run_of("ants-and-bees")

    def real_figures(plain: dict[str, Any]) -> None:
        test = plain["splits"]["test"]
        test["metrics"]["accuracy"] = {
            "value": 146 / 153,
            "low": 0.9087,
            "high": 0.9777,
            "interval": "wilson",
            "n": 153,
        }
        plain["baselines"]["majority"]["metrics"]["accuracy"]["value"] = 83 / 153

    edit(run, "evaluation.json", real_figures)
    text = Page(write_report(run)).text
    assert (
        "This model tells ants from bees: right on 146 of 153 test images it never saw, "
        "95.4 % (95 % interval 90.9-97.8 %)." in text
    )
    assert "Always answering the most common class would be right on 54.2 % of them (" in text
    assert "Accuracy, test 95.4 % 90.9-97.8 %, n = 153" in text
    assert "0.134 0.081-0.204 bootstrap 153" in text
    assert "1 min 32 s" in text
    card = (run / "report.md").read_text(encoding="utf-8")
    assert "| Accuracy | 95.4 % | 90.9\u201397.8 % | Wilson | 153 |" in card


def test_every_metric_class_and_cell_is_shown(run_of: RunOf) -> None:
    run = run_of("ten")
    text = Page(write_report(run)).text
    evaluation = json.loads((run / "evaluation.json").read_text())
    for metric in evaluation["splits"]["test"]["metrics"].values():
        shown = f"{metric['value']:.1%}".replace("%", " %")
        low, high = 100 * metric["low"], 100 * metric["high"]
        plain = f"{metric['value']:.3f} {metric['low']:.3f}-{metric['high']:.3f}"
        assert f"{shown} {low:.1f}-{high:.1f} %" in text or plain in text
    for row in evaluation["per_class"]:
        assert f"{row['name']} {100 * row['precision']['value']:.1f} %" in text
    for name, row in zip(evaluation["classes"], evaluation["confusion"], strict=True):
        assert f"{name} {' '.join(map(str, row))}" in text.replace(" .", ".")


def test_comparisons_claim_no_more_than_their_interval(run_of: RunOf) -> None:
    text = Page(write_report(run_of("ants-and-bees"))).text
    assert "full fine-tuning against linear probe: accuracy +1.3 points no difference shown" in text
    assert (
        "these images cannot tell the two apart. 95 % interval \u22120.6 to +3.3; p = 0.62; n = 153." in text
    )
    assert "accuracy +41.0 points better" in text
    assert "p < 0.001" in text


def test_many_classes_become_worst_and_best(run_of: RunOf) -> None:
    run = run_of("hundred")
    text = Page(write_report(run)).text
    evaluation = json.loads((run / "evaluation.json").read_text())
    matrix, names = evaluation["confusion"], evaluation["classes"]
    largest = max(n for i, row in enumerate(matrix) for j, n in enumerate(row) if i != j)
    truth, answer = next(
        (i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n == largest and i != j
    )
    assert f"{names[truth]} {names[answer]} {largest} of {sum(matrix[truth])}" in text
    scores = sorted((row["f1"], row["name"]) for row in evaluation["per_class"])
    hardest = text.split("The 15 hardest of 100 classes")[1].split("The 5 easiest")[0]
    assert [name for _, name in scores[:15] if name not in hardest] == []
    assert scores[-1][1] in text.split("The 5 easiest")[1]
    assert "And 88 more classes." in text


def test_multilabel_speaks_of_labels(run_of: RunOf) -> None:
    text = Page(write_report(run_of("labels"))).text
    assert "finds which of 5 labels apply to an image: mean average precision 83.2 %" in text
    assert "right on" not in text.split("What was decided")[0]
    assert "there is no single matrix" in text


def test_hostile_names_stay_text(run_of: RunOf) -> None:
    run = run_of("hostile")
    path = write_report(run)
    html, card = path.read_text(encoding="utf-8"), (run / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.jpg" in html
    assert "<script>alert(1)</script>.jpg" in Page(path).text
    outside_code = re.sub(r"`[^`\n]*`", "", card)
    assert "<" not in outside_code
    assert r"a\|b\`c\`\_d\_" in card


@pytest.mark.parametrize(
    "missing",
    [
        "facts.json",
        "plan.json",
        "history.jsonl",
        "ledger.json",
        "evaluation.json",
        "bundle/manifest.json",
        "gallery",
    ],
)
def test_a_missing_file_is_not_recorded(run_of: RunOf, missing: str) -> None:
    run = run_of("ants-and-bees")
    target = run / missing
    target.rename(run / "elsewhere")
    text = Page(write_report(run)).text
    if missing != "history.jsonl":
        assert "not recorded" in text
    else:
        assert "No training steps were recorded." in text
    if missing == "evaluation.json":
        assert "This model has not been evaluated yet." in text


def test_no_run_folder_and_a_damaged_file_are_told(run_of: RunOf, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a run folder"):
        write_report(tmp_path)
    run = run_of("ants-and-bees")
    (run / "ledger.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match=r"ledger\.json is not JSON"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_without_a_test_split_the_page_says_so(run_of: RunOf) -> None:
    run = run_of("ants-and-bees")
    edit(run, "evaluation.json", lambda plain: plain["splits"].pop("test"))
    text = Page(write_report(run)).text
    assert "59 of 61 validation images" in text
    assert "it never saw" not in text
    assert "the figure flatters it" in text


def test_rungs_tell_what_became_of_them(run_of: RunOf) -> None:
    run = run_of("ants-and-bees")
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()[:-1]]
    kept = [event for event in lines if event.get("rung") != "full"]
    kept.append({"event": "note", "rung": "full", "reason": "not climbed: the budget is used up"})
    (run / "history.jsonl").write_text("".join(json.dumps(event) + "\n" for event in kept))
    edit(run, "evaluation.json", lambda plain: plain.update(method="linear-probe"))
    text = Page(write_report(run)).text
    assert "linear probe kept this model" in text
    assert "full fine-tuning not run" in text
    assert "Not climbed: the budget is used up." in text


def test_a_broken_freeze_is_shouted(run_of: RunOf) -> None:
    run = run_of("ants-and-bees")
    assert (
        "Proven: what was called frozen, in 2 of 7 groups, is bit-identical" in Page(write_report(run)).text
    )

    def break_it(plain: dict[str, Any]) -> None:
        plain["frozen_identical"] = False
        plain["groups"][0]["verified"] = False

    edit(run, "ledger.json", break_it)
    text = Page(write_report(run)).text
    assert "Do not trust this run" in text
    assert "CHANGED" in text
    assert "Proven" not in text


def test_pictures_are_the_run_folders_own(run_of: RunOf) -> None:
    run = run_of("ants-and-bees")
    (run.parent / "secret.jpg").write_bytes(b"\xff\xd8\xffsecret")

    def point_outside(plain: dict[str, Any]) -> None:
        plain["mistakes"][1]["thumbnail"] = "../secret.jpg"
        plain["mistakes"][2]["thumbnail"] = "facts.json"

    edit(run, "evaluation.json", point_outside)
    page = Page(write_report(run))
    sources = [base64.b64decode(str(attrs["src"]).split(",")[1]) for attrs in page.all("img")]
    assert (run / "gallery" / "mistake-0.jpg").read_bytes() in sources
    assert (run / "gallery" / "examples" / "1-5.jpg").read_bytes() in sources
    assert not [content for content in sources if b"secret" in content]
    assert len(sources) == 12 + 12 - 2
    assert page.text.count("picture not recorded") == 2


def test_card_is_markdown_with_front_matter(run_of: RunOf) -> None:
    run = run_of("ants-and-bees")
    write_report(run)
    card = (run / "report.md").read_text(encoding="utf-8")
    head, body = card.split("---\n")[1], card.split("---\n", 2)[2]
    assert 'license: "apache-2.0"' in head
    assert "This model tells ants from bees" in body
    for title in ("Numbers", "Data", "How it was made", "Preprocessing", "Licences", "Environment", "Use"):
        assert f"\n## {title}\n" in body
    tables = re.findall(r"(?:^\|.*\|\n)+", body, flags=re.M)
    assert len(tables) >= 4
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert f"headstart predict {run.name} photos/ --out answers.csv" in body


def test_the_same_run_gives_the_same_page(run_of: RunOf) -> None:
    run = run_of("ants-and-bees")
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_a_solved_probe_has_words_instead_of_an_empty_chart(run_of: RunOf) -> None:
    run = run_of("ants-and-bees")
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()[:-1]]
    kept = [event for event in lines if event.get("rung") != "full"]
    assert not [event for event in kept if event["event"] == "step"]
    kept.append(
        {
            "event": "validation",
            "rung": "linear-probe",
            "epoch": 0.0,
            "metrics": {"accuracy": 0.95, "log_loss": 0.2},
            "reason": "strength C = 0.1 is best of 7",
        }
    )
    (run / "history.jsonl").write_text("".join(json.dumps(event) + "\n" for event in kept))
    path = write_report(run)
    learned = Page(path).text.split("How it learned")[1].split("Where it is sure")[0]
    assert "solved for in one go" in learned
    assert (
        "Strength C = 0.1 is best of 7. On the validation images: accuracy 95.0 %, log-loss 0.200." in learned
    )
    html = path.read_text(encoding="utf-8").split('id="curves"')[1].split("</section>")[0]
    assert "<svg" not in html


def test_a_weak_model_is_not_praised(run_of: RunOf) -> None:
    run = run_of("ten")

    def weak(plain: dict[str, Any]) -> None:
        plain["splits"]["test"]["metrics"]["accuracy"]["value"] = 0.12
        for entry in plain["comparisons"]:
            entry["verdict"] = "no difference shown"

    edit(run, "evaluation.json", weak)
    text = Page(write_report(run)).text
    assert "This model tries to tell 10 classes apart" in text
    assert "%): these images do not show that the model is any better." in text


def test_a_label_missed_and_a_label_added_are_told_apart(run_of: RunOf) -> None:
    run = run_of("labels")

    def two(plain: dict[str, Any]) -> None:
        first, second = plain["mistakes"][:2]
        first.update(truth="sky|tree", predicted="sky", explained="tree", probability=0.93)
        second.update(truth="", predicted="dog", explained="dog", probability=0.91)
        plain["mistakes"] = [first, second]

    edit(run, "evaluation.json", two)
    text = Page(write_report(run)).text
    assert "missed tree 93.0 % sure said sky truly sky|tree" in text
    assert "wrongly added dog 91.0 % sure said dog truly none" in text


def test_files_are_named_from_the_folder_that_was_given(run_of: RunOf) -> None:
    run = run_of("ants-and-bees")
    edit(run, "facts.json", lambda plain: plain.update(source="/home/me/photos/"))
    edit(run, "evaluation.json", lambda plain: plain["mistakes"][0].update(name="/home/me/photos/val/a.jpg"))
    text = Page(write_report(run)).text
    assert " val/a.jpg " in text
    assert "/home/me/photos/val" not in text
