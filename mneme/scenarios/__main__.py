"""`python -m mneme.scenarios`: run the scenarios, write docs/results.md and docs/results.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import typer
from rich.console import Console

from mneme._util.console import RichProgress
from mneme._util.errors import ConfigError, UserError
from mneme._util.settings import suggest
from mneme.scenarios.results import read_results, write_results
from mneme.scenarios.run import run_scenario
from mneme.scenarios.spec import LIST, load_scenarios
from mneme.scenarios.suite import Suite, known_results


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when every scenario is finished, 1 when one failed, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m mneme.scenarios", description=__doc__)
    parser.add_argument(
        "--data", default=os.environ.get("MNEME_EVALUATION_DATA"), help="folder of the evaluation data"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/scenarios"), help="where organisms and runs go"
    )
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where results.md and .json go")
    parser.add_argument("--list", type=Path, default=LIST, help="a TOML list of scenarios")
    parser.add_argument("--only", action="append", help="only this scenario; may be repeated")
    parser.add_argument("--seed", type=int, action="append", help="only this seed; may be repeated")
    parser.add_argument("--base", help="another base model")
    parser.add_argument(
        "--again",
        action="store_true",
        help="make effects and evaluation of finished ones again, from their runs",
    )
    parser.add_argument("--fresh", action="store_true", help="forget the results that lie in --docs")
    parser.add_argument("--quick", action="store_true", help="tiny settings, for tests")
    given = parser.parse_args(arguments)
    try:
        return _main(given)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        return error.exit_code


def _main(given: argparse.Namespace) -> int:
    common, scenarios = load_scenarios(given.list)
    if not given.data or not Path(given.data).is_dir():
        raise ConfigError(
            f"no evaluation data at {given.data}: give its folder with --data or MNEME_EVALUATION_DATA"
        )
    if unknown := next((name for name in given.only or () if name not in scenarios), None):
        raise ConfigError(f"no scenario {unknown}: {suggest(unknown, scenarios)}")
    if given.base:
        common["base"] = given.base
    suite = Suite(
        given.out,
        Path(given.data),
        common,
        scenarios,
        given.quick,
        again=given.again,
        progress=RichProgress(Console()),
    )
    wanted = [s for s in scenarios.values() if not given.only or s.name in given.only]
    jobs = [(scenario, seed) for scenario in wanted for seed in scenario.seeds]
    jobs = [job for job in jobs if not given.seed or job[1] in given.seed]
    earlier = [] if given.fresh else read_results(given.docs)
    failed = False
    for number, (scenario, seed) in enumerate(jobs, 1):
        typer.echo(f"[{number}/{len(jobs)}] {scenario.title}, seed {seed}")
        found = run_scenario(suite, scenario, seed)
        if "error" in found:
            failed = True
            typer.echo(f"  failed: {found['error']}")
        # After each: a night that ends early leaves what it has. What was made before stays in the results.
        known, missing = known_results(suite, earlier)
        whole = write_results(known, given.docs, missing)
    typer.echo(json.dumps(whole))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
