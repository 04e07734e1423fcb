"""What import-linter can't see of the house's rules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import mneme

_HOME = Path(mneme.__file__).parent
_SPEAK_SQL = {"store", "analyst", "search", "testing"}
_SQL = re.compile(
    r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|CREATE|ALTER)\s+(\*|\w).*?\s?(FROM|INTO|SET|AS|TABLE)\s", re.S
)


def _queries(file: Path) -> list[str]:
    texts = [n.value for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and _SQL.match(text)]


def test_sql_stands_in_the_rooms_that_speak_it() -> None:
    dashboard = _HOME.parent / "dashboard"
    files = [f for f in _HOME.rglob("*.py") if f.relative_to(_HOME).parts[0] not in _SPEAK_SQL | {"_bundle"}]
    assert len(files) > 200
    found = {str(f): q for f in (*files, *dashboard.rglob("*.py")) if (q := _queries(f))}
    assert not found, "move these into mneme/store/queries"


def test_a_query_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "page.py"
    file.write_text('run.sql(f"SELECT * FROM {t} WHERE x")\nrun.rows("SELECT count(*) FROM latents")\n')
    assert len(_queries(file)) == 2


def test_no_loose_module_at_the_top() -> None:
    assert {f.name for f in _HOME.glob("*.py")} == {"__init__.py", "__main__.py"}
