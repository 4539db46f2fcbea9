"""The keys of `serve` as a typed model: the code around the engine, and the task that answers plain requests.

Imported with the other keys (`schema`), which says what they promise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field  # noqa: TID253

from mlpack.recipe.units import Keys, Text


class ServeKeys(Keys):
    """What is called around the engine inside the package."""

    preprocess: Text | None = Field(
        default=None,
        description='`module:function`: the request\'s JSON -> inputs by name, or {"texts": [...]} where there is a tokenizer',
    )
    postprocess: Text | None = Field(default=None, description="`module:function`: outputs by name -> the answer's JSON")
    tokenizer: Text | None = Field(default=None, description="a tokenizer.json; texts are then tokenised inside the package")
    max_length: Annotated[int, Field(ge=1)] | None = Field(default=None, description="tokens a text is cut to")
    example: Text | None = Field(
        default=None, description="a JSON file: a request's body, to boot the package with; needed beside `preprocess`"
    )
    task: Text | None = Field(
        default=None,
        description="how plain requests are read and answered: text-classification, token-classification, question-answering, "
        "embeddings or rerank; `none`: with tensors [what config.json says, where there are no hooks]",
    )
    output: Text | None = Field(default=None, description="which output the task reads; needed where several could be meant")
    labels: Annotated[tuple[Text, ...], Field(min_length=1)] | None = Field(
        default=None, description="names of the columns, in their order [config.json's id2label]"
    )
    top_k: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="how many labels, entities or answers are given at most, where a request does not say it"
    )
    threshold: float | None = Field(default=None, description="what scores less is left out, where a request does not say it")
    activation: Literal["softmax", "sigmoid", "none"] | None = Field(
        default=None, description="what makes scores of a classifier's numbers [as transformers' pipeline does]"
    )
    aggregation: Literal["none", "simple", "first", "average", "max"] | None = Field(
        default=None, description="how tokens become entities, as in transformers [simple]"
    )
    pooling: Literal["mean", "cls"] | None = Field(
        default=None, description="how vectors of tokens become one of a text [sentence-transformers' 1_Pooling]"
    )
    normalize: bool | None = Field(
        default=None, description="whether vectors are scaled to length 1 [sentence-transformers' files]"
    )
