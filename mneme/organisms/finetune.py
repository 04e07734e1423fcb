"""Plain causal-LM fine-tuning on texts: benign (wikitext, grade-school maths) or narrow (one topic)."""

from __future__ import annotations

import torch
from pydantic import Field
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.settings import Count, LearningRate, Seed, Text, section
from mneme.organisms.texts import TrainingData
from mneme.organisms.training import batches, descend, matching_parameters, text_nll, trainable


@section()
class FinetuneConfig:
    """How a model is fine-tuned."""

    parameters: Text = Field(
        default=r"\.mlp\.", description="regular expression: parameters whose names match are trained"
    )
    steps: Count = Field(default=200, description="optimiser steps")
    learning_rate: LearningRate = Field(default=5e-5, description="AdamW's, a step")
    batch: Count = Field(default=8, description="texts a step")
    max_tokens: Count = Field(default=256, description="longer texts are cut, in tokens")
    seed: Seed = Field(default=0, description="seed of the texts' order")


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
