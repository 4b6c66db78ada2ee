"Label sets as the defaults of arguments: help stays readable."
import inspect
import pydoc

from msca.base.labels import SCENE_LABELS
from msca.data.scene import load_labels


def test_a_label_set_is_one_short_line():
    assert repr(SCENE_LABELS) == f'LabelSet({SCENE_LABELS.name!r}, 17 classes)'


def test_help_of_a_function_with_a_label_set_as_default_is_short():
    text = pydoc.render_doc(load_labels, renderer=pydoc.plaintext)
    assert 'LabelSet(' in str(inspect.signature(load_labels)) and len(text) < 1500
