"""Is the planner right? Every method to its end in many cells, and what `--method auto` would have chosen and reached.

    python bench/regret.py run --data FOLDER --fashion FOLDER --out FOLDER      # hours; goes on where it was interrupted
    python bench/regret.py replay --out FOLDER                                  # seconds: decides again with what was stored

A cell is a set of images, a number of training images and weights. bench/README.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # in the place of bench/ itself

from bench.regret_replay import load
from bench.regret_report import report
from bench.regret_run import MACHINE, Lab, Settings
from bench.regret_sets import SETS, TEST, Where
from bench.regret_table import table
from headstart._core.check import one_of
from headstart._core.errors import HeadstartError
from headstart._core.files import writable_folder, write_text
from headstart._core.records import dumps, read_json
from headstart.compute import keep_memory
from headstart.methods import METHODS

SIZES = "100,300,50,1000"
USUAL = "linear-probe,depth-probe,partial,full"
QUICK = Settings(budget="60s", tested=20, given={"epochs": 1})
QUICK_SETS, QUICK_SIZES = "digits,textures", "40"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code, after everything that was asked for."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if options.phase == "run":
            _run(options)
        replay(options.out)
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on.", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    quick = options.quick
    names = _words(options.only or (QUICK_SETS if quick else ",".join(SETS)))
    sizes = _words(options.sizes or (QUICK_SIZES if quick else SIZES))
    lab = Lab(
        out=writable_folder(options.out),
        where=Where(options.data, options.fashion, options.out / "sets"),
        settings=QUICK
        if quick
        else Settings(budget=options.budget, seed=options.seed, tested=options.tested),
        native=None
        if options.native is None
        else frozenset(one_of("--native", name, SETS) for name in _words(options.native)),
    )
    methods = [one_of("--methods", name, METHODS) for name in _words(options.methods)]
    cells = lab.cells(
        [one_of("--only", name, SETS) for name in names],
        [int(size) for size in sizes],
        _words(options.weights),
    )
    keep_memory()
    added = lab.run(cells, methods)
    print(f"{added} results added in {options.out}")


def replay(out: Path) -> dict[str, Any]:
    """The report of everything that is stored; also written as `regret.json` and `regret.md`."""
    found = report(load(out)) | {"machine": read_json(out / MACHINE)}
    write_text(out / "regret.json", dumps(found) + "\n")
    write_text(out / "regret.md", table(found))
    print(table(found))
    return found


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("phase", choices=("run", "replay"))
    parser.add_argument(
        "--out", type=Path, default=Path("bench/results/regret"), help="where results are kept"
    )
    parser.add_argument("--data", type=Path, help="folder with the public sets, each in a folder of its own")
    parser.add_argument("--fashion", type=Path, help="folder with the IDX files of Fashion-MNIST")
    parser.add_argument("--only", default="", help=f"names of sets; default: {','.join(SETS)}")
    parser.add_argument("--sizes", default="", help=f"training images, in this order; default: {SIZES}")
    parser.add_argument(
        "--native", help="sets whose tuning is measured at the pretraining's size too; default: all"
    )
    parser.add_argument("--methods", default=USUAL, help="default: %(default)s")
    parser.add_argument("--weights", default="bundled:efficientnet_lite0")
    parser.add_argument("--budget", default="3m", help="of each cell, as for fit; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--tested", type=int, default=TEST, help="test images of a cell, at most; default: %(default)s"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one epoch, few images: does everything run? No figures"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
