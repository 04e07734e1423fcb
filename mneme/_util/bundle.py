"""What comes with mneme besides its modules: `dashboard/`, `data/` and `.streamlit/`.

In a checkout, and so in an editable install, they lie beside the package; a wheel carries them in `mneme/_bundle/`
(pyproject.toml maps them there). Everything that opens one of them asks here.
"""

from __future__ import annotations

from pathlib import Path

from mneme._util.errors import MnemeError

_PACKAGE = Path(__file__).resolve().parents[1]
_PARTS = ("dashboard", "data", ".streamlit")


def bundle_folder(package: Path = _PACKAGE) -> Path:
    """The folder that holds dashboard/, data/ and .streamlit/: the checkout's own files where there is one.

    Raises MnemeError where they are missing: a package copied by hand, or an incomplete installation.
    """
    # A folder of installed packages may have a data/ or a dashboard/ of somebody else, never all of this.
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file() and _complete(checkout):
        return checkout
    if _complete(bundled := package / "_bundle"):
        return bundled
    raise MnemeError(
        f"mneme's dashboard and data are neither in {bundled} nor beside {package}: install it again with"
        " `pip install mneme-diff`, or work in its repository"
    )


def _complete(folder: Path) -> bool:
    return all((folder / part).is_dir() for part in _PARTS)
