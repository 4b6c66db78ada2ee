"A short form of `make fuzz`: a few damaged files for every reader and command; and the long one finds faults that are put back."
import fuzzing
import pytest


@pytest.fixture(scope='module')
def scratch(tmp_path_factory): return tmp_path_factory.mktemp('fuzz')


@pytest.fixture(scope='module')
def targets(scratch): return {t.name: t for t in fuzzing.targets(scratch)}


def test_every_reader_and_command_reads_or_refuses(targets, scratch):
    for t in targets.values(): fuzzing.fuzz(t, scratch, 3 if t.slow else 25)
    assert {t.name: t.violations for t in targets.values() if t.violations} == {}
    assert all(t.inputs for t in targets.values()) and sum(t.refused for t in targets.values()) > 100


@pytest.mark.parametrize('fault', fuzzing.MENDED)
def test_a_mended_fault_that_is_put_back_is_found(targets, scratch, fault):
    back, name = fuzzing.put_back(fault)
    t = targets[name]
    t.violations.clear()
    with back: fuzzing.fuzz(t, scratch, 400)
    found, t.violations = t.violations, []
    assert found
    fuzzing.fuzz(t, scratch, 20)
    assert t.violations == []
