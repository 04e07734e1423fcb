"""Commands that try mneme itself: known interventions, run, registered and measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mneme._util.errors import ConfigError
from mneme.cli.common import EVIDENCE, app, out

if TYPE_CHECKING:
    from mneme.scenarios.spec import Scenario
    from mneme.scenarios.suite import Suite

scenarios_app = typer.Typer(no_args_is_help=True, help="Try mneme on known interventions; docs/protocol.md.")
app.add_typer(scenarios_app, name="scenarios", rich_help_panel=EVIDENCE)

Data = Annotated[
    Path,
    typer.Option(envvar="MNEME_EVALUATION_DATA", help="Folder of the evaluation data.", show_default=False),
]
Listed = Annotated[
    Path | None, typer.Option("--list", help="A TOML list of scenarios. [default: the bundled one]")
]
Only = Annotated[list[str] | None, typer.Option(help="Only this scenario; may be repeated.")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", help="Only this seed; may be repeated.")]
Base = Annotated[str | None, typer.Option(help="Another base model.")]
Quick = Annotated[bool, typer.Option("--quick", help="Tiny settings, for tests.")]
Docs = Annotated[Path, typer.Option(help="Where results.md and results.json go.")]
Registered = Annotated[Path, typer.Option(help="Where registered predictions go.")]
Protocol = Annotated[Path, typer.Option(help="The protocol that predictions are registered under.")]

RUNS, DOCS = Path("runs/scenarios"), Path("docs")


@scenarios_app.command()
def run(
    data: Data,
    folder: Annotated[Path, typer.Option("--out", help="Where organisms and runs go.")] = RUNS,
    docs: Docs = DOCS,
    listed: Listed = None,
    only: Only = None,
    seed: Seeds = None,
    base: Base = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Make effects and evaluation of finished ones again, from their runs."),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the results that lie in --docs.")] = False,
    quick: Quick = False,
) -> None:
    """Run the scenarios of a list, and write results.md and results.json. Exit code 1 when one failed."""
    from mneme.scenarios.results import read_results, write_results
    from mneme.scenarios.run import run_scenario
    from mneme.scenarios.suite import known_results

    suite, jobs = _jobs(data, folder, listed, only, seed, base, quick, again)
    earlier = [] if fresh else read_results(docs)
    failed = False
    for number, (scenario, each) in enumerate(jobs, 1):
        out.print(f"[{number}/{len(jobs)}] {scenario.title}, seed {each}", markup=False)
        found = run_scenario(suite, scenario, each)
        if "error" in found:
            failed = True
            out.print(f"  failed: {found['error']}", markup=False)
        # After each: a night that ends early leaves what it has. What was made before stays in the results.
        known, missing = known_results(suite, earlier)
        whole = write_results(known, docs, missing)
    typer.echo(json.dumps(whole))
    raise typer.Exit(1 if failed else 0)


@scenarios_app.command()
def draw(
    listed: Annotated[Path, typer.Argument(help="A TOML list of candidates, written beforehand.")],
    lot: Annotated[str, typer.Option(help="The id of the commit that froze the method.")],
    number: Annotated[
        list[str],
        typer.Option("--number", "-n", metavar="KIND=N", help="How many of a kind; may be repeated."),
    ],
) -> None:
    """Draw held-out scenarios by lot: the same lot and list give the same ones to everybody."""
    from mneme.scenarios.lot import drawn
    from mneme.scenarios.spec import load_scenarios

    wanted = {}
    for text in number:
        kind, _, n = text.partition("=")
        if not n.isdecimal():
            raise ConfigError(f"--number {text}: give a kind and how many, e.g. unlearning=4")
        wanted[kind] = int(n)
    _, candidates = load_scenarios(listed)
    for scenario in drawn(candidates, wanted, lot):
        out.print(f"{scenario.name}  {scenario.title}", markup=False)


@scenarios_app.command()
def register(
    data: Data,
    folder: Annotated[Path, typer.Option("--out", help="Where organisms and runs go.")] = RUNS,
    listed: Listed = None,
    only: Only = None,
    seed: Seeds = None,
    base: Base = None,
    quick: Quick = False,
    registered: Registered = DOCS / "registered",
    protocol: Protocol = DOCS / "protocol.md",
) -> None:
    """Make scenarios' organisms and runs, and write down what the runs say before anything is measured."""
    from mneme.scenarios.registered import register as register_one

    suite, jobs = _jobs(data, folder, listed, only, seed, base, quick)
    for scenario, each in jobs:
        file = register_one(suite, scenario, each, registered, protocol, _list_file(listed))
        out.print(f"Registered {escape(str(file))}")


@scenarios_app.command()
def measure(
    data: Data,
    folder: Annotated[Path, typer.Option("--out", help="Where organisms and runs go.")] = RUNS,
    listed: Listed = None,
    only: Only = None,
    seed: Seeds = None,
    base: Base = None,
    quick: Quick = False,
    registered: Registered = DOCS / "registered",
    protocol: Protocol = DOCS / "protocol.md",
) -> None:
    """Measure the outcomes of registered scenarios, and hold what was registered against them."""
    from mneme.scenarios.registered import measure_registered

    suite, jobs = _jobs(data, folder, listed, only, seed, base, quick)
    for scenario, each in jobs:
        file = measure_registered(suite, scenario, each, registered, protocol, _list_file(listed))
        out.print(f"Measured {escape(str(file))}")


def _list_file(listed: Path | None) -> Path:
    from mneme.scenarios.spec import LIST

    return LIST if listed is None else listed


def _jobs(
    data: Path,
    folder: Path,
    listed: Path | None,
    only: list[str] | None,
    seeds: list[int] | None,
    base: str | None,
    quick: bool,
    again: bool = False,
) -> tuple[Suite, list[tuple[Scenario, int]]]:
    """The suite, and the scenarios and seeds that are asked for."""
    from mneme._util.console import RichProgress
    from mneme._util.settings import suggest
    from mneme.scenarios.spec import load_scenarios
    from mneme.scenarios.suite import Suite

    common, scenarios = load_scenarios(_list_file(listed))
    if not data.is_dir():
        raise ConfigError(
            f"no evaluation data at {data}: give its folder with --data or MNEME_EVALUATION_DATA"
        )
    if unknown := next((name for name in only or () if name not in scenarios), None):
        raise ConfigError(f"no scenario {unknown}: {suggest(unknown, scenarios)}")
    if base:
        common["base"] = base
    suite = Suite(folder, data, common, scenarios, quick, again=again, progress=RichProgress(out))
    wanted = [s for s in scenarios.values() if not only or s.name in only]
    return suite, [(s, each) for s in wanted for each in s.seeds if not seeds or each in seeds]
