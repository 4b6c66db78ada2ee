"""Example-guided image synthesis with masked spatial-channel attention.

`from msca import Synthesizer, SCENE_LABELS` is all that most people need; torch is imported only when something asks for it.
"""
from importlib import metadata

try: __version__ = metadata.version("msca")
except metadata.PackageNotFoundError: __version__ = "0+unknown"

_PUBLIC = {"Synthesizer": "pretrained", "shipped_models": "pretrained", "SCENE_LABELS": "labels", "InputError": "labels", "Scene": "scene"}
__all__ = list(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC: raise AttributeError(f"module 'msca' has no attribute {name!r}")
    from importlib import import_module
    return getattr(import_module(f"msca.{_PUBLIC[name]}"), name)


def __dir__(): return [*globals(), *__all__]
