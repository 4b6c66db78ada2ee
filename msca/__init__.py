"""Example-guided image synthesis with masked spatial-channel attention.

`from msca import Synthesizer, SCENE_LABELS` is all that most people need; torch is imported only when something asks for it.

The rooms, in the order in which data flows; each imports from those above it only:

base        label sets and palettes, files, processes, weights of known networks, what the lessons share
data        scenes, procedural scenes, datasets, patches, checks, the cache of decoded photos
model       pyramids of features, masked spatial-channel attention, SPADE, the synthesizer, segmenters, tiles, export
learning    the recipe, discriminators, losses, self-supervised samples, callbacks, learners, history, launch, run
evidence    metrics, tasks, retrieval, reports, comparisons, studies, reproduction of the paper's tables
steering    explaining, interpolating and extrapolating with a trained model
app         the widgets of `msca app` and of Jupyter
relatives   the paper's ablations, and other systems to compare with
pretrained  the shipped models, prepared inputs, and `Synthesizer`, which paints with them
commands    the `msca` command
"""
from importlib import import_module, metadata

try: __version__ = metadata.version("msca")
except metadata.PackageNotFoundError: __version__ = "0+unknown"

_PUBLIC = {"Synthesizer": "pretrained.synthesizer", "shipped_models": "pretrained.models",
           "SCENE_LABELS": "base.labels", "InputError": "base.labels", "Scene": "data.scene"}
__all__ = list(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC: raise AttributeError(f"module 'msca' has no attribute {name!r}")
    tell = import_module("msca.base.schema").tell_parameters  # so that help() says what the comments beside parameters say
    return tell(getattr(import_module(f"msca.{_PUBLIC[name]}"), name))


def __dir__(): return [*globals(), *__all__]
