"""What a run folder holds, read leniently: a file that is not there is empty, not an error."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from headstart._core.errors import BadInput
from headstart._core.records import read_json, record

_KINDS = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF8", "gif"))
_LARGEST = 2_000_000  # bytes; a thumbnail is far smaller, and the page must stay one that a mail can carry


@record
class RunFolder:
    """The files of one run, as plain JSON values; `{}` where a file is missing."""

    path: Path
    facts: dict[str, Any]
    evidence: dict[str, Any]
    plan: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    ledger: dict[str, Any]
    evaluation: dict[str, Any]
    manifest: dict[str, Any]
    ranking: dict[str, Any]
    audit: dict[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in output order, from the first file that has them."""
        for source in (self.evaluation, self.manifest, self.facts):
            if source.get("classes"):
                return tuple(str(name) for name in source["classes"])
        return ()

    @property
    def task(self) -> str:
        """`classify`, `multilabel`, or empty where no file says."""
        return str(
            next(
                (s["task"] for s in (self.evaluation, self.plan, self.facts, self.manifest) if s.get("task")),
                "",
            )
        )


def read_run(path: Path) -> RunFolder:
    """The run folder's files.

    Raises:
        BadInput: when the folder does not exist, has none of a run's files, or one of them is damaged.
    """
    names = ("facts.json", "plan.json", "ledger.json", "evaluation.json", "bundle/manifest.json")
    if not any((path / name).is_file() for name in names):
        raise BadInput(
            f"{path} is not a run folder: it has none of {', '.join(names)}.",
            hint="Give the folder that `headstart fit` wrote.",
        )
    facts, plan, ledger, evaluation, manifest = (
        read_json(path / name) if (path / name).is_file() else {} for name in names
    )
    evidence, ranking, audit = (path / f"{name}.json" for name in ("evidence", "ranking", "audit"))
    return RunFolder(
        path=path,
        facts=facts,
        evidence=read_json(evidence) if evidence.is_file() else {},
        plan=plan,
        history=read_history(path / "history.jsonl"),
        ledger=ledger,
        evaluation=evaluation,
        manifest=manifest,
        ranking=read_json(ranking) if ranking.is_file() else {},
        audit=read_json(audit) if audit.is_file() else {},
    )


def read_history(path: Path) -> tuple[dict[str, Any], ...]:
    """The events of a run, in order; a last line that a killed run left half-written is passed over."""
    events: list[dict[str, Any]] = []
    if not path.is_file():
        return ()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return tuple(events)


def embedded(run: Path, relative: Any) -> str:
    """A picture of the run folder as a `data:` URI; empty when missing, too large, no picture, or outside."""
    if not isinstance(relative, str) or not relative or "\0" in relative:
        return ""
    root = run.resolve()
    found = (root / relative).resolve()
    if not found.is_relative_to(root) or not found.is_file() or found.stat().st_size > _LARGEST:
        return ""
    content = found.read_bytes()
    kind = next((name for start, name in _KINDS if content.startswith(start)), "")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}" if kind else ""


def examples(run: Path, index: int, *, most: int = 6) -> tuple[str, ...]:
    """Up to `most` example images of the class with that index, as `data:` URIs."""
    folder = run / "gallery" / "examples"
    found = [
        f"gallery/examples/{index}-{k}.jpg"
        for k in range(most + 1)
        if (folder / f"{index}-{k}.jpg").is_file()
    ]
    return tuple(uri for uri in (embedded(run, name) for name in found[:most]) if uri)
