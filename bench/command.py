"""`make bench`: the command line, the files that it writes, and the table."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import gpu, inputs
from bench.cases import CASES, PEERS, Bench
from bench.measure import ROOT, Answer, machine
from bench.sizes import FULL, QUICK
from headstart._core.files import write_text

ALL = CASES | {"gpu": gpu.gpu}


def main(arguments: Sequence[str]) -> int:
    """0 when every case that was asked for has its figures."""
    options = _parser().parse_args(arguments)
    asked = options.only.split(",") if options.only else list(ALL)
    unknown = sorted(set(asked) - set(ALL))
    if unknown:
        print(f"There is no case {', '.join(unknown)}; there are {', '.join(ALL)}.", file=sys.stderr)
        return 2
    out = Path(options.out).resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files go
    if options.work:
        Path(options.work).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headstart-bench-", dir=options.work or None) as folder:
        bench = _open(options, Path(folder).resolve())
        if fault := _fault(bench):
            print(fault, file=sys.stderr)
            return 2
        settings = json.loads(
            json.dumps({"data": bench.data.name, "quick": options.quick} | asdict(bench.sizes))
        )
        for name in asked:
            file = out / f"{name}.json"
            if not options.again and _kept(file, settings):
                print(f"{name}: kept from before")
                continue
            print(f"{name} …", flush=True)
            write_text(_made(file), json.dumps(_measure(name, bench, settings), indent=1) + "\n")
    found = [
        json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
        for name in ALL
        if (out / f"{name}.json").exists()
    ]
    table = markdown(found)
    write_text(out / "results.md", table)
    print(table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/run.py", description="headstart beside the plain way, in turn."
    )
    parser.add_argument("--data", default="", help="folder of JPEG photos, one folder for each class")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does everything run? No figures.")
    parser.add_argument("--only", default="", metavar="CASE,…", help=", ".join(ALL))
    parser.add_argument("--out", default=str(ROOT / "bench" / "results"), help="where results go")
    parser.add_argument("--work", default="", help="where temporary files go; about 2 GB")
    parser.add_argument(
        "--peers", default="", help=f"folder with {', '.join(PEERS)}: measured too where installed"
    )
    parser.add_argument("--again", action="store_true", help="measure finished cases again")
    return parser


def _open(options: argparse.Namespace, work: Path) -> Bench:
    data = Path(options.data).resolve() if options.data else inputs.default_data(work)
    peers = Path(options.peers).resolve() if options.peers else None
    return Bench(data, work, QUICK if options.quick else FULL, peers)


def _fault(bench: Bench) -> str:
    """What is wrong with the folders that were named, or an empty string."""
    if bench.peers and not bench.peers.is_dir():
        return f"--peers: there is no folder {bench.peers}."
    try:
        inputs.photos(bench.data)
    except ValueError as error:
        return f"--data: {error}"
    return ""


def _kept(file: Path, settings: Answer) -> bool:
    """Whether the case is finished with the same settings."""
    return file.exists() and json.loads(file.read_text(encoding="utf-8"))["settings"] == settings


def _made(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _measure(name: str, bench: Bench, settings: Answer) -> Answer:
    before, began = machine(), time.perf_counter()
    found = ALL[name](bench)
    head = {"case": name, "what": (ALL[name].__doc__ or "").partition("\n")[0], "seed": 0}
    seconds = round(time.perf_counter() - began, 1)
    return head | {"settings": settings, "machine": before, "seconds": seconds} | found


def markdown(cases: Sequence[Answer]) -> str:
    """The table of all cases: medians, (lowest to highest), and how far ours, the first of each line, is ahead."""
    lines = ["# Measured beside the plain way, in turn", ""]
    for case in cases:
        host = case["machine"]
        lines += [f"## {case['case']}", "", case["what"], ""]
        if case["settings"]["quick"]:
            lines += ["**Quick: tiny sizes, no figures to quote.**", ""]
        lines += [
            f"{host['processor']}, {host['cores']} cores, load {host['load_before']} before; {_versions(host)}",
            "",
        ]
        if case["rows"]:
            lines += [
                "| measured | way | median | low to high | turns | the first is ahead |",
                "|---|---|---:|---:|---:|---:|",
            ]
            lines += [line for each in case["rows"] for line in _lines(each)] + [""]
        lines += [f"- {key.replace('_', ' ')}: {_told(value)}" for key, value in case["facts"].items()] + [""]
    return "\n".join(lines)


def _versions(host: Answer) -> str:
    chosen = ("torch", "timm", "openvino", "scikit-learn")
    return ", ".join(f"{name} {host['versions'][name]}" for name in chosen if name in host["versions"])


def _lines(each: Answer) -> list[str]:
    out = []
    for way, value in each["values"].items():
        ratio = each["ratios"].get(way)
        ahead = f"{ratio:.2f}x" if ratio else ""
        spread = f"{_told(value['low'])} to {_told(value['high'])}"
        turns = len(value["values"])
        out.append(
            f"| {each['what']} | {way} | {_told(value['median'])} {each['unit']} | {spread} | {turns} | {ahead} |"
        )
    return out


def _told(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5f}" if 0.9 < value < 1 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(each)}" for key, each in value.items())
    return str(value)
