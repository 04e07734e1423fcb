"""Write docs/conformance.md: every registered decoder and every kind of adapter, tried. `make conformance`."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from pathlib import Path

import peft
import torch
import transformers

from conformance import adapters
from conformance.architectures import ARCHITECTURES
from conformance.checks import CHECKS, Verdict, examine

TABLE = Path(__file__).parents[2] / "docs" / "conformance.md"

_HEAD = """\
# Which models are read, and how that is known

Made by `make conformance` with transformers {transformers}, PEFT {peft} and torch {torch}; not edited by hand.

## Decoders

The {n} architectures that transformers registers for causal language models, each as a tiny random model ({counts}).
One pair of each goes through mneme, and is held against plain forward passes of models that mneme never touched:

- *streams*: after every layer those of a forward hook, of base and tuned; *hidden states*: those of
  `output_hidden_states`, where it means the same place (-: it does not);
- *predictions*: KL and NLL of a whole harvest, over windows as long as the model reads;
- *shared layers*: equal bits with and without running the layers before the change once for both (how many were shared,
  of 2), and equal logits;
- *lens*: the derivative of the logits by the last layer's stream (-: the head is no norm and linear map, and there is
  no lens).

Refused is said in one line before any work. Untried: no tiny model could be made.

"""

_ADAPTERS = """\

## Adapters

Every kind that PEFT registers, with random weights, on three bases: Llama (matrices apart), GPT-2 (stored the other way
round, and embeddings tied to the head), Gemma-2 (the tie too). Merged: the logits are those of PEFT's own unmerged
model, and an adapter of one end alone leaves the other end of a tie as it is.

"""


def main() -> int:
    """0 where nothing is read wrongly."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    verdicts = [_told(examine(kind)) for kind in ARCHITECTURES]
    merges = [adapters.merge(kind, base) for kind in adapters.KINDS for base in adapters.BASES]
    TABLE.write_text(_decoders(verdicts) + _merges(merges), encoding="utf-8")
    wrong = [v.kind for v in verdicts if not v.ok] + [f"{m.kind} on {m.base}" for m in merges if not m.ok]
    print(f"{TABLE}: {len(wrong)} read wrongly {' '.join(wrong)}")  # noqa: T201
    return int(bool(wrong))


def _told(verdict: Verdict) -> Verdict:
    print(verdict.kind, verdict.status, flush=True)  # noqa: T201
    return verdict


def _decoders(verdicts: list[Verdict]) -> str:
    counts = Counter(verdict.status for verdict in verdicts)
    said = ", ".join(f"{counts[status]} {status}" for status in ("read", "refused", "untried"))
    versions = {"transformers": transformers.__version__, "peft": peft.__version__}
    head = _HEAD.format(n=len(verdicts), counts=said, torch=torch.__version__.partition("+")[0], **versions)
    rows = ["| architecture | " + " | ".join(CHECKS) + " |", "|---" * (1 + len(CHECKS)) + "|"]
    for verdict in (v for v in verdicts if v.status == "read"):
        cells = dict(verdict.found)
        cells["shared layers"] += f" ({verdict.n_shared})"
        rows.append(f"| {verdict.kind} | " + " | ".join(cells[check] for check in CHECKS) + " |")
    for status in ("refused", "untried"):
        rows += ["", f"| {status} | |", "|---|---|"]
        rows += [f"| {v.kind} | {_cell(v.reason)} |" for v in verdicts if v.status == status]
    return head + "\n".join(rows) + "\n"


def _merges(merges: list[adapters.Merge]) -> str:
    rows = ["| kind | " + " | ".join(adapters.BASES) + " |", "|---" * (1 + len(adapters.BASES)) + "|"]
    for kind in adapters.KINDS:
        cells = [
            "merged" if m.ok and m.status == "merged" else f"{m.status}: {_cell(m.reason or m.wrong)}"
            for m in merges
            if m.kind == kind
        ]
        rows.append(f"| {kind} | " + " | ".join(cells) + " |")
    return _ADAPTERS + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "/").strip()


if __name__ == "__main__":
    sys.exit(main())
