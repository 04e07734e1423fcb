"""A text through both models of a run and its crosscoder.

For each token t: the latents that fire (f_tj, raw units), KL(base || tuned) and both NLLs of the prediction made
at t (of the token after it), and for each latent that fires how much of it either model holds there,

    held_tj^m = p_j . (x_t^m - x_hat_t^m + f_tj d_j^m) / |p_j|^2

along the latent's main probe p_j: the latent's activation as that model's own stream has it. Latent scaling's
beta_j^m (target `error`, mneme/attribution/scaling.py) is its mean over tokens weighted by f, over that of f, so
held = f on both sides is a latent that nothing happened to. BOS and attention sinks get no latents, as in the harvest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from mneme._util.errors import RunError, UserError
from mneme.attribution.geometry import make_geometry
from mneme.crosscoder import Crosscoder
from mneme.crosscoder.codes import SparseCodes
from mneme.harvest.behaviour import compare_predictions
from mneme.harvest.forward import PairReader
from mneme.interpret.tokens import TokenTexts
from mneme.models import ModelPair
from mneme.models.layers import most_positions
from mneme.probe.chat import render_chat
from mneme.run.finished import settings_of
from mneme.run.pair_of_run import pair_of_run
from mneme.store.run import open_run
from mneme.store.seals import check_seals

MAX_TOKENS = 512
"""Longer texts are refused: the page shows every token."""


class Reading(NamedTuple):
    """What was read of a text of T tokens with P (token, latent) pairs that fire; plain lists, for JSON."""

    tokens: list[str]
    """T texts; with a BOS in front where the harvest has one."""
    left_out: list[bool]
    """T: BOS and attention sinks, which the dictionary does not describe."""
    kl: list[float | None]
    nll_base: list[float | None]
    """T, nats, of the prediction made at the token; None at the last."""
    nll_tuned: list[float | None]
    row: list[int]
    """P: the token, ascending."""
    latent: list[int]
    activation: list[float]
    held_base: list[float]
    held_tuned: list[float]


class Prober:
    """A run's pair and crosscoder in memory. Raises RunError where the run lacks what is needed."""

    def __init__(
        self, pair: ModelPair, crosscoder: Crosscoder, layer: int, sink_norms: tuple[float, float]
    ) -> None:
        self.pair, self.crosscoder = pair, crosscoder.to(pair.base.device)
        self.geometry = make_geometry(self.crosscoder)
        self.reader = PairReader(pair, layer)
        self._sink_norms = torch.tensor(sink_norms, device=pair.base.device)
        self._texts = TokenTexts(pair.tokenizer)

    @classmethod
    def of_run(cls, folder: str | Path, say: Callable[[str], None] = lambda text: None) -> Prober:
        """Load a run's models and dictionary; `say` is told what is being loaded.

        Raises ModelError when the models have changed since the run: the dictionary is of those it read.
        """
        folder = Path(folder)
        run = open_run(folder)
        if run.finished("crosscoder") is None or not (folder / "crosscoder" / "config.json").exists():
            raise RunError(
                f"{folder} has no crosscoder yet: `mneme run {folder / 'run.toml'} --out {folder}` makes it"
            )
        config = settings_of(run)
        read = ("crosscoder/config.json", "crosscoder/model.safetensors", "activations/index.json")
        check_seals(folder, ("crosscoder", "harvest"), only=read, gone_ok=True)
        say("loading both models")
        pair = pair_of_run(folder, config)
        say("loading the crosscoder")
        crosscoder = Crosscoder.from_pretrained(folder / "crosscoder")
        return cls(pair, crosscoder, int(run.info()["layer"]), _sink_norms(folder))

    def ids(self, text: str, *, chat: bool = False) -> list[int]:
        """Token ids, BOS first where the model has one. Raises UserError for a text that is empty or too long."""
        tokenizer = self.pair.tokenizer
        shown = render_chat(tokenizer, text) if chat else text
        ids = list(tokenizer(shown, add_special_tokens=False)["input_ids"]) if shown.strip() else []
        if not ids:
            raise UserError("the text is empty: give some words")
        bos = tokenizer.bos_token_id
        if bos is not None and (ids[0] != bos or not chat):
            ids = [int(bos), *ids]
        limit = min(MAX_TOKENS, most_positions(self.pair.base._module) or MAX_TOKENS)
        if len(ids) > limit:
            raise UserError(f"the text has {len(ids):,} tokens, at most {limit:,} are read: shorten it")
        return ids

    @torch.no_grad()
    def read(self, text: str, *, chat: bool = False) -> Reading:
        """Both models on the text. Raises UserError for texts that can't be read."""
        ids = self.ids(text, chat=chat)
        tokens = torch.tensor(ids)
        out = self.reader.read(tokens[None], logits=True)
        assert out.base_logits is not None and out.tuned_logits is not None
        following = torch.cat([tokens[1:], torch.tensor([-1])])
        said = compare_predictions(out.base_logits[0], out.tuned_logits[0], following)
        x = torch.stack([out.base[0], out.tuned[0]], dim=1).float()  # (T, 2, d)
        left_out = (x.norm(dim=-1) > self._sink_norms).any(1)
        left_out[0] |= ids[0] == self.pair.tokenizer.bos_token_id
        kept = torch.nonzero(~left_out)[:, 0]
        codes = self.crosscoder.encode_sparse(x[kept])
        held = self._held(x[kept], codes)
        return Reading(
            self._texts.texts(ids),
            left_out.tolist(),
            _plain(said.kl),
            _plain(said.nll_base),
            _plain(said.nll_tuned),
            row=kept[codes.row].tolist(),
            latent=codes.latent.tolist(),
            activation=_rounded(codes.value),
            held_base=_rounded(held[:, 0]),
            held_tuned=_rounded(held[:, 1]),
        )

    def _held(self, x: torch.Tensor, codes: SparseCodes) -> torch.Tensor:
        """(P, 2): held_tj^m of each active pair, of x (T, 2, d) raw."""
        residual = x - self.crosscoder.decode_sparse(codes, len(x))
        decoder = self.geometry.decoder.float()
        main = torch.as_tensor(self.geometry.probe, device=decoder.device)[codes.latent]
        probe = decoder[main, codes.latent]  # (P, d)
        own = decoder[:, codes.latent].transpose(0, 1)  # (P, 2, d)
        whole = residual[codes.row] + codes.value[:, None, None] * own
        found: torch.Tensor = (whole * probe[:, None]).sum(-1) / probe.square().sum(-1, keepdim=True).clamp(
            min=1e-12
        )
        return found


def _sink_norms(folder: Path) -> tuple[float, float]:
    """Norms above which the harvest left tokens out; infinite where its files are gone."""
    try:
        index = json.loads((folder / "activations" / "index.json").read_text(encoding="utf-8"))
        base, tuned = (float(index["sink_ratio"]) * float(norm) for norm in index["median_norm"])
    except (OSError, ValueError, KeyError):
        return float("inf"), float("inf")
    return base, tuned


def _plain(values: torch.Tensor) -> list[float | None]:
    return [None if value != value else float(f"{value:.5g}") for value in values.tolist()]


def _rounded(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]
