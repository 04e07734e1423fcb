"""Plain causal-LM fine-tuning on texts: benign (wikitext, grade-school maths) or narrow (one topic)."""

from __future__ import annotations

import dataclasses

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.organisms.texts import TrainingData
from mneme.organisms.training import batches, descend, matching_parameters, text_nll, trainable


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """How a model is fine-tuned."""

    parameters: str = dataclasses.field(
        default=r"\.mlp\.", metadata={"doc": "regular expression: parameters whose names match are trained"}
    )
    steps: int = dataclasses.field(default=200, metadata={"doc": "optimiser steps"})
    learning_rate: float = dataclasses.field(default=5e-5, metadata={"doc": "AdamW's, a step"})
    batch: int = dataclasses.field(default=8, metadata={"doc": "texts a step"})
    max_tokens: int = dataclasses.field(default=256, metadata={"doc": "longer texts are cut, in tokens"})
    seed: int = dataclasses.field(default=0, metadata={"doc": "seed of the texts' order"})


def finetune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    config: FinetuneConfig,
    progress: Progress = NULL_PROGRESS,
) -> list[str]:
    """Minimise the NLL a token of `data.learn`; changes the model in place, returns the changed names.

    Raises ConfigError when `parameters` matches nothing.
    """
    names = matching_parameters(model, config.parameters)
    learn = batches(data.learn, tokenizer, config.batch, config.max_tokens, config.seed)

    def loss() -> torch.Tensor:
        nll, n = text_nll(model, next(learn))
        return nll.sum() / n.sum()

    with trainable(model, names) as parameters:
        descend(
            parameters,
            loss,
            name="finetune",
            steps=config.steps,
            learning_rate=config.learning_rate,
            progress=progress,
        )
    return names
