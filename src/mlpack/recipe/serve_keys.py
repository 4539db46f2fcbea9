"""The keys of `serve` as a typed model: the code around the engine, and the task that answers plain requests.

Imported with the other keys (`schema`), which says what they promise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field  # noqa: TID253

from mlpack.recipe.serve.access import Authorize, CorsKeys
from mlpack.recipe.serve.around_keys import CacheKeys, FeatureKeys, LogKeys
from mlpack.recipe.serve.pictures import ImageKeys, ObjectKeys
from mlpack.recipe.serve.sound import SoundKeys
from mlpack.recipe.serve.weights import WeightKeys
from mlpack.recipe.serve_urls import UrlKeys
from mlpack.recipe.units import Keys, Text


class ServeKeys(Keys):
    """What the package does with a request before and after the engine runs."""

    preprocess: Text | None = Field(
        default=None,
        description='`module:function`: from the request\'s JSON to inputs by name, or to {"texts": [...]} with a tokenizer',
    )
    postprocess: Text | None = Field(default=None, description="`module:function`: from outputs by name to the answer's JSON")
    tokenizer: Text | None = Field(default=None, description="a tokenizer.json; texts are then tokenised inside the package")
    max_length: Annotated[int, Field(ge=1)] | None = Field(default=None, description="tokens a text is cut to")
    example: Text | None = Field(
        default=None, description="a JSON file with a request's body, to boot the package with; required with `preprocess`"
    )
    requirements: Annotated[tuple[Text, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="distributions that the hooks import, as pip writes them (`pillow`, `numpy>=2`), or files that list them "
        "(`./requirements.txt`): only wheels, pinned in mlpack.lock",
    )
    slim: bool = Field(
        default=True,
        description="whether tests, type stubs, headers, static libraries and debug data of the requirements are left out",
    )
    preload: tuple[Text, ...] = Field(
        default=(),
        description="modules that are imported when the package starts, rather than by the first request that needs them: for "
        "SnapStart, provisioned concurrency and containers",
    )
    authorize: Authorize | None = Field(
        default=None, description="who may ask over HTTP: by API key, by token, or by a hook of your own [anybody]"
    )
    cors: CorsKeys | None = Field(default=None, description="which origins' pages may ask in a browser [none]")
    task: Text | None = Field(
        default=None,
        description="how plain requests are read and answered: text-classification, token-classification, question-answering, "
        "embeddings, rerank, image-classification, object-detection, audio-classification or automatic-speech-recognition; `none`: "
        "with tensors [what config.json says, where there are no hooks]",
    )
    output: Text | None = Field(
        default=None, description="the output that the task reads; required where more than one could be meant"
    )
    start_output: Text | None = Field(
        default=None, description="of question-answering: the output that says where an answer starts; required where names do not"
    )
    end_output: Text | None = Field(default=None, description="of question-answering: the output that says where it ends")
    labels: Annotated[tuple[Text, ...], Field(min_length=1)] | None = Field(
        default=None, description="names of the columns, in their order [config.json's id2label]"
    )
    top_k: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="the largest number of labels, entities or answers, where a request gives none"
    )
    threshold: float | None = Field(default=None, description="the least score of an answer, where a request gives none")
    activation: Literal["softmax", "sigmoid", "none"] | None = Field(
        default=None, description="the function from a classifier's numbers to scores [as transformers' pipeline does]"
    )
    aggregation: Literal["none", "simple", "first", "average", "max"] | None = Field(
        default=None, description="how tokens become entities, as in transformers [simple]"
    )
    pooling: Literal["mean", "cls"] | None = Field(
        default=None, description="how the vectors of tokens become one vector of a text [sentence-transformers' 1_Pooling]"
    )
    normalize: bool | None = Field(
        default=None, description="whether vectors are scaled to length 1 [sentence-transformers' files]"
    )
    image: ImageKeys | None = Field(default=None, description="how pictures become the model's input [preprocessor_config.json]")
    objects: ObjectKeys | None = Field(default=None, description="what a detector's outputs mean [config.json]")
    sound: SoundKeys | None = Field(default=None, description="how sounds become the model's input [preprocessor_config.json]")
    urls: UrlKeys | None = Field(
        default=None, description="hosts that pictures and sounds may be fetched from; without it a request brings their bytes"
    )
    weights: WeightKeys | None = Field(
        default=None, description="weights outside the package, fetched by digest at each start; without it they lie in the package"
    )
    features: FeatureKeys | None = Field(
        default=None, description="a request brings ids, and their features come from a DynamoDB table"
    )
    cache: CacheKeys | None = Field(default=None, description="answers that are kept for equal inputs, in memory and in a table")
    log: LogKeys | None = Field(default=None, description="a sample of requests and answers, to S3 or Firehose")
