"""Settings of the interpretation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mneme._util.settings import Seed, ShareInside, section

Contexts = Annotated[int, Field(ge=1, le=10_000)]
DecileContexts = Annotated[int, Field(ge=0, le=10_000)]
Window = Annotated[int, Field(ge=1, le=4096)]
MapNeighbours = Annotated[int, Field(ge=2, le=10_000)]


@section("interpret")
class InterpretConfig:
    """What is gathered about each latent."""

    top_contexts: Contexts = Field(default=20, description="strongest contexts kept for each latent")
    decile_contexts: DecileContexts = Field(
        default=4, description="further contexts from each tenth of a latent's activations, by rank"
    )
    window: Window = Field(default=48, description="tokens in a context, around its strongest token")
    test_share: ShareInside = Field(
        default=0.4,
        description="share of documents whose contexts only score labels, in (0, 1)",
    )
    lens_tokens: Contexts = Field(
        default=10, description="tokens kept at each end of a latent's logit lens, for each model"
    )
    neighbours: Contexts = Field(default=8, description="nearest latents kept, by decoder and by firing each")
    map_neighbours: MapNeighbours = Field(
        default=15, description="n_neighbors of UMAP: larger shows coarser shape"
    )
    seed: Seed = Field(
        default=0, description="of the split, the sampled contexts, the scores' negatives and the map"
    )
