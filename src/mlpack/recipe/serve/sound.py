"""`serve.sound`: how sounds become a model's input, as typed keys.

Imported with the other keys (`schema`), which says what they promise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field  # noqa: TID253

from mlpack.core.serving import Sound
from mlpack.recipe.units import Duration, Keys

_Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]


class SoundKeys(Keys):
    """How sounds become the model's input. What is left out is as preprocessor_config.json says, where there is one."""

    rate: Annotated[int, Field(ge=1000, le=192_000)] | None = Field(
        default=None, description="samples a second that the model was trained on; others are resampled"
    )
    features: Literal["waveform", "filter-banks", "log-mel"] | None = Field(
        default=None,
        description="`waveform`: the samples, as of Wav2Vec2; `filter-banks`: Kaldi's log mel energies, as of the Audio "
        "Spectrogram Transformer; `log-mel`: as of Whisper",
    )
    normalize: bool | None = Field(
        default=None, description="whether a waveform gets mean 0 and variance 1, or filter banks mean and std [true]"
    )
    mean: _Number | None = Field(default=None, description="of filter banks: what is subtracted [-4.2677393, AudioSet's]")
    std: Annotated[_Number, Field(gt=0)] | None = Field(
        default=None, description="of filter banks: they are divided by twice this [4.5689974, AudioSet's]"
    )
    window: Annotated[Duration, Field(ge=1_000, le=600_000)] | None = Field(
        default=None,
        description="the longest sound that the model gets at once: recognition reads longer ones in windows, classification of "
        "waveforms refuses them [30s]",
    )

    def record(self) -> Sound:
        """What the recipe's record has of these keys."""
        return Sound(**self.model_dump(exclude={"window"}), window_ms=self.window)
