"""What is known of other people's losses: `make record-ports SOURCES=DIR`.

Every implementation whose checkout lies in the folder is judged by the golden cases, clause by clause, and its formula
is identified. What came out is written as one JSON file for each, and `docs/implementations.md` is made of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from regionloss_adapters import Adapter, AdapterError, Timeable, load_adapter
from regionloss_adapters.load import BUNDLED
from regionloss_adapters.ports.source import VARIABLES, Port, name_source
from regionloss_spec import load_cases
from regionloss_spec.clause import View
from regionloss_suite.judging.exchange import Exchange
from regionloss_suite.judging.judge import Judge
from regionloss_suite.measure import formula, identify
from regionloss_suite.measure.verify import verify


@dataclass(frozen=True)
class Implementation:
    """One implementation that there is an adapter for.

    Attributes:
        name: of its file and its column.
        adapter: that runs it.
        upstream: where it can be cloned from; its last part is looked for in the folder of checkouts too.
        framework: whose version matters.
        port: what its adapter was written for; `None` for darknet, which is compiled as it lies.
    """

    name: str
    adapter: str
    upstream: str
    framework: str
    port: Port | None = None

    def source(self, sources: Path) -> Path | None:
        """Its checkout: a folder by its name or by that of its repository."""
        repository = self.upstream.rpartition("/")[2]
        names = (self.name, repository) if self.port is not None else (self.name,)
        return next((sources / name for name in names if (sources / name).is_dir()), None)


def known() -> list[Implementation]:
    """Every implementation that there is an adapter for; both families of darknet first."""
    known_ports = [
        Implementation("darknet-pjreddie", "darknet", "https://github.com/pjreddie/darknet", ""),
        Implementation("darknet-AlexeyAB", "darknet", "https://github.com/AlexeyAB/darknet", ""),
    ]
    for name in VARIABLES:
        if name != "darknet":
            port: Port = importlib.import_module(BUNDLED[name][0]).PORT
            known_ports.append(Implementation(name, name, port.upstream, port.framework, port))
    return known_ports


def recorded(one: Implementation, source: Path, batches: int, *, speed: bool) -> dict[str, Any]:
    """Everything that is found out about an implementation, as its file holds it. Raises `AdapterError`."""
    name_source(one.adapter, source)
    adapter = load_adapter(one.adapter)
    port, claimed = one.port, adapter.describe().profiles[0]
    record: dict[str, Any] = {
        "name": one.name,
        "upstream": one.upstream,
        "commit": port.commit if port is not None else _commit(source),
        "licence": port.licence if port is not None else "public domain",
        "framework": f"{one.framework} {importlib.import_module(one.framework).__version__}" if one.framework else "C",
        "date": date.today().isoformat(),
        "notes": list(adapter.describe().notes[bool(port) :]),
        "judged": {name: judged(adapter, name) for name in dict.fromkeys(("darknet", claimed))},
        "identified": identified(adapter, batches),
    }
    if speed and isinstance(adapter, Timeable):
        from regionloss_suite.bench.torch_interleave import ratio

        record["times as long as torch-eager"] = ratio(adapter)
    return record


def judged(adapter: Adapter, profile: str) -> dict[str, Any]:
    """How many cases depart in each clause, and in what each case that departs is seen first."""
    judge = Judge(adapter, load_cases(), profile)
    clauses = {}
    for clause in judge.clauses:
        answered, departing = judge.departures(clause)
        if answered:
            clauses[clause.id] = [len(departing), answered, *departing[:1]]
    observations = judge.observations
    return {
        "cases": len({observation.case.id for observation in observations}),
        "departing": {
            observation.case.id: _departure(observation.exchange) for observation in observations if observation.departs
        },
        "clauses": clauses,
    }


def _departure(exchange: Exchange) -> str:
    if exchange.comparison is None:
        return f"{exchange.outcome}: {exchange.message or 'an answer'}"
    return str(exchange.comparison.difference(View("everything"))).partition(", ")[2]


def identified(adapter: Adapter, batches: int) -> dict[str, Any]:
    """The formula as `regionloss identify` reads it, without the evidence."""
    identified = identify(adapter)
    whole = formula.as_json(identified, verify(adapter, identified, number=batches))
    findings = whole.pop("findings")
    whole["odd"] = {one["axis"]: one["evidence"] for one in findings if one["odd"]}
    whole["not identified"] = [one["axis"] for one in findings if one["value"] is None]
    whole["differences"] = [one for one in whole["differences"] if one["axis"] not in whole["not identified"]]
    del whole["loss"]
    return whole


def _commit(source: Path) -> str:
    command = ["git", "-C", str(source), "rev-parse", "HEAD"]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    return completed.stdout.strip() if completed.returncode == 0 else "unknown"


def main(arguments: list[str] | None = None) -> int:
    """Write a file for every implementation whose checkout is there; 0 if there was any, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m tools.record_ports", description=__doc__)
    parser.add_argument("--sources", metavar="DIR", type=Path, required=True, help="the folder of the checkouts")
    parser.add_argument("--folder", metavar="OUT", type=Path, default=Path("docs/implementations"))
    parser.add_argument("--only", metavar="NAME", nargs="+", help="these alone")
    parser.add_argument("--batches", metavar="N", type=int, default=500, help="random batches to verify a formula on")
    parser.add_argument("--speed", action="store_true", help="time them too, on a machine with nothing else to do")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for one in known():
        if options.only is not None and one.name not in options.only:
            continue
        source = one.source(options.sources)
        if source is None:
            print(f"· {one.name}: no checkout; git clone {one.upstream} {options.sources / one.name}")
            continue
        try:
            record = recorded(one, source, options.batches, speed=options.speed)
        except AdapterError as error:
            print(f"· {one.name}: {error}")
            continue
        file = options.folder / f"{one.name}.json"
        file.write_text(_text(record), encoding="utf-8")
        written += 1
        checked = record["identified"]["verification"]
        print(f"✓ {one.name}: {checked['explained']} of {checked['batches']} random batches explained → {file}")
    return 0 if written else 1


def _text(record: dict[str, Any]) -> str:
    """JSON with a line for each clause."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    for judgement in record["judged"].values():
        for counts in judgement["clauses"].values():
            text = text.replace(json.dumps(counts, indent=1).replace("\n", "\n    "), json.dumps(counts))
    return text + "\n"


if __name__ == "__main__":
    sys.exit(main())
