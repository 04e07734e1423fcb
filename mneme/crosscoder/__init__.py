"""One sparse dictionary of both models: the module, its training, its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme._util.lazy import lazy_exports

if TYPE_CHECKING:
    from mneme.crosscoder.codes import CodeCache, SparseCodes, to_csr
    from mneme.crosscoder.config import CrosscoderConfig
    from mneme.crosscoder.export import export_crosscoder
    from mneme.crosscoder.module import Crosscoder
    from mneme.crosscoder.train import train_crosscoder

__all__ = [
    "CodeCache",
    "Crosscoder",
    "CrosscoderConfig",
    "SparseCodes",
    "export_crosscoder",
    "to_csr",
    "train_crosscoder",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "CodeCache": "codes",
        "Crosscoder": "module",
        "CrosscoderConfig": "config",
        "SparseCodes": "codes",
        "export_crosscoder": "export",
        "to_csr": "codes",
        "train_crosscoder": "train",
    },
)
