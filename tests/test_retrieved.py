"Training with look-alikes as exemplars: stage 4, its recipe, stopped and resumed, in parts, and from the command line."
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from resuming import train_and_resume

from msca.base.labels import SCENE_LABELS
from msca.commands.cli import main
from msca.data.datasets import ProceduralScenes
from msca.data.lookalikes import LabelIndex
from msca.data.scene import Scene
from msca.learning.history import read_history
from msca.learning.recipe import CROSS, OTHER, LossWeights, TrainingConfig, phases, schedule_lines
from msca.learning.run import TrainingRun
from msca.learning.samples import PairDataset, PhotoStore, stage_loaders
from msca.relatives.ablations import variant_recipe
from msca.relatives.cocosnet import CoCosNetConfig

torch.set_num_threads(1)
S = len(SCENE_LABELS)
TOY = CoCosNetConfig(S, widths=(8, 12, 16, 24, 32), spade_hidden=(8,)*5, adaptor_width=4, adaptor_hidden=8, matching_channels=8, matching_blocks=1)
RECIPE = TrainingConfig(size=32, warmup_epochs=0, epochs=(1, 1), batch_size=4, lr=1e-3, discriminator_width=8, losses=LossWeights(1, 2, 0, 5, .5),
                        sample_every=4, checkpoint_every=2)


def training(folder, **changes):
    "A toy training whose second stage has look-alikes."
    variant, config = variant_recipe('cocosnet-retrieved', RECIPE)
    return TrainingRun(folder, ProceduralScenes(13, 64, seed=1), ProceduralScenes(4, 64, seed=2), SCENE_LABELS, replace(config, **changes), TOY, variant=variant)


def test_trained_and_resumed_bit_by_bit(tmp_path):
    "A crash in the middle of the second stage leaves no trace; only there is a discriminator's accuracy on look-alikes."
    rows = read_history(train_and_resume(training, tmp_path, 6).folder)
    assert [r['iteration'] for r in rows if 'd_accuracy_other' in r] == list(range(4, 10))
    assert all(0 <= r['d_accuracy_other'] <= 1 and r['warp_error'] > 0 and r['l1'] > 0 for r in rows[3:])
    assert all('held_out_l1' in r and np.isfinite(r['column_spread']) for r in rows if r['iteration'] % 4 == 0)


def test_measured_by_what_has_a_truth(tmp_path):
    "Where all of a training is stage 4, its held-out errors are those of the cross samples."
    run = training(tmp_path, epochs=(0, 1))
    batch = run._log(run.phases[0], [], ()).batch
    assert batch[-1].tolist() == [CROSS]*2


class Place(ProceduralScenes):
    "Scenes whose names say that some of them were taken together."
    def __init__(self, n, size, of):
        super().__init__(n, size, seed=5)
        self.names, self._drawn = [f'walk{of[i]}__{i}' for i in range(n)], self.names

    def __getitem__(self, i):
        scene = ProceduralScenes(1, self.size, seed=5)
        scene.names = [self._drawn[i]]
        return replace(scene[0], name=self.names[i])


def test_never_itself_nor_its_place():
    "Forty photos of eight walks, over three epochs: the exemplar is another walk's, and a photo of its tenth."
    store = PhotoStore(Place(40, 32, [i//5 for i in range(40)]), 32)
    dataset, found = PairDataset(store, 4, seed=3, flip=False), set()
    pictures = {store[k][0].tobytes(): k for k in range(40)}
    for dataset.epoch in range(3):
        for i in range(40):
            cross, other = dataset[i]
            k = pictures[other.exemplar.tobytes()]
            assert (cross.task, other.task) == (CROSS, OTHER) and k in store.alike(i) and k//5 != i//5
            found.add((i, k))
    assert 60 < len(found) <= 160  # not always the same one, and of four each


def test_a_folder_of_one_place_is_refused():
    "Nobody is left to be alike."
    store = PhotoStore(Place(8, 32, [0]*8), 32)
    with pytest.raises(Exception, match='no photo from another place'): PairDataset(store, 4)[0]


def test_photos_of_all_shapes_and_unlabelled_ones():
    "Whole photos at any aspect; a photo without a single label finds somebody."
    rng = np.random.default_rng(0)
    def scene(i, h, w, ids): return Scene(Image.fromarray(rng.integers(0, 255, (h, w, 3), np.uint8)), np.full((h, w), ids, np.uint8), SCENE_LABELS, f'p{100*i}')
    store = PhotoStore([scene(0, 64, 150, 3), scene(1, 90, 64, 255), scene(2, 64, 64, 3), scene(3, 200, 70, 7)], 32)
    assert store.alike(0).tolist() == [2] and store.alike(2).tolist() == [0] and len(store.alike(1)) == 1
    batch = next(iter(stage_loaders(store, store, S, 4, 8).train))
    assert batch[0].shape == (8, S+1, 32, 32) and batch[-1].tolist() == [CROSS]*4 + [OTHER]*4
    assert np.array_equal(LabelIndex.of_maps([store[i][1] for i in range(4)], [f'p{100*i}' for i in range(4)]).overlaps(np.full((9, 9), 3, np.uint8)), [1, 0, 1, 0])


def test_schedule():
    "As many batches as with self-reconstruction; what cannot be is refused in one line."
    variant, config = variant_recipe('cocosnet-retrieved', RECIPE)
    assert (variant, config.stages, config.pair_discriminator) == ('cocosnet', (1, 4), False)
    assert [p.batches(12, 4) for p in phases(config)] == [p.batches(12, 4) for p in phases(variant_recipe('cocosnet', RECIPE)[1])] == [3, 6]
    assert 'other photos as exemplars' in schedule_lines(config, 12)[-1]
    for said, bad in (('must be even', dict(batch_size=3)), ('pair_discriminator must be off', dict(pair_discriminator=True)), ('4 must be the second', dict(stages=(4, 4)))):
        with pytest.raises(ValueError, match=said): replace(config, **bad)
    replace(config, pair_discriminator=True, discriminator='semantic')  # which sees no exemplar


def test_by_the_command(tmp_path, capsys):
    "`msca train --variant cocosnet-retrieved`, and a model of stages 1 and 4 by options; without the switch one line says what is missing."
    small = ('--size 32 --warmup-epochs 0 --pretrain-epochs 0 --epochs 0,1 --batch-size 4 --parser-epochs 0 --discriminator-width 8 --no-cache --device cpu').split()
    assert main(['train', '--procedural', '16', '--variant', 'cocosnet-retrieved', *small, '--out', str(tmp_path/'a')]) == 0
    assert 'other photos as exemplars' in capsys.readouterr().out
    gap = ['train', '--procedural', '16', '--variant', 'gap', '--stages', '1,4', *small]
    assert main([*gap, '--out', str(tmp_path/'b')]) == 2
    assert 'pair_discriminator must be off' in capsys.readouterr().err
    assert main([*gap, '--no-pair-discriminator', '--out', str(tmp_path/'b')]) == 0
    assert any('d_accuracy_other' in r for r in read_history(tmp_path/'b'))
