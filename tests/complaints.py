"What a call complains about, for tests of bad input."
import pytest

from msca.base.labels import InputError


def complaint(f, *args, **kwargs):
    "The one line with which the call ends."
    with pytest.raises(InputError) as e: f(*args, **kwargs)
    line = str(e.value)
    assert line and '\n' not in line and len(line) < 400, line
    return line
