"""Which training images have a label, and batches of those that have one and those that have none."""

import numpy as np
import pytest
import torch

from hvae_spec import compiler
from hvae_spec.data.dataset import load_dataset
from hvae_spec.data.labeled import labeled_images
from hvae_spec.errors import DataError
from hvae_spec.nn.random import Streams
from tests.members import member


def labeled(count=20, **overrides):
    return member(
        2,
        data__labeled=count,
        data__labeled_batch=15,
        data__redraw="once",
        **{"model__classes": {"mlp": [6]}, **overrides},
    )


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(labeled().data)


def epochs(batches, epoch, seeds=(0, 3), purpose="training"):
    return list(batches.labeled_epoch(Streams(seeds).begin(purpose, epoch)))


def test_labeled_images_are_as_many_of_each_class_by_the_seed_alone(dataset):
    classes = dataset.class_indices(dataset.train_labels)
    found = labeled_images(classes, 20, 0)
    assert np.bincount(classes[found]).tolist() == [2] * 10
    assert len(set(found)) == 20
    assert found.tolist() == labeled_images(classes, 20, 0).tolist() != labeled_images(classes, 20, 1).tolist()


def test_an_epoch_goes_once_through_the_unlabeled_images_and_adds_labeled_ones(dataset):
    batches = compiler.batches(labeled(), dataset)
    unknown, known = batches.sets([0, 3])
    assert sorted(torch.cat([unknown, known], dim=1)[1].tolist()) == list(range(320))
    found = epochs(batches, 1)
    assert batches.steps == len(found) == 300 // 32
    assert batches.full == 32 + 15
    images = batches.images.float()
    for m in (0, 1):
        seen, added, labels = [], [], []
        for x, y in found:
            assert x.shape == (2, 47, 64)
            seen.append(x[m, :32])
            added.append(x[m, 32:])
            labels.append(y[m])
        # Each image without a label at most once, and none with one.
        places = torch.cdist(torch.cat(seen), images, p=1).argmin(1)
        assert {tuple(image.tolist()) for image in torch.cat(seen)} <= {
            tuple(image.tolist()) for image in images[unknown[m]]
        }
        assert len(places) == 9 * 32
        own = torch.cdist(torch.cat(added), images[known[m]], p=1)
        assert float(own.min(1).values.max()) == 0
        # 135 of 20 images in turn, in a new order each time: six or seven times each.
        turns = own.argmin(1).bincount(minlength=20)
        assert sorted(set(turns.tolist())) == [6, 7]
        targets = batches.targets[known[m]][own.argmin(1)]
        assert torch.equal(torch.cat(labels), targets)


def test_batches_are_a_function_of_the_seed_the_purpose_and_the_epoch(dataset):
    batches = compiler.batches(labeled(), dataset)
    first, again, later = epochs(batches, 1), epochs(batches, 1), epochs(batches, 2)
    alone, other = epochs(batches, 1, seeds=(3,)), epochs(batches, 1, purpose="statistics")
    for (x, y), (same, labels), (own, known) in zip(first, again, alone, strict=True):
        assert torch.equal(x, same)
        assert torch.equal(y, labels)
        assert torch.equal(x[1:], own)
        assert torch.equal(y[1:], known)
    assert not torch.equal(first[0][0], later[0][0])
    assert not torch.equal(first[0][1], other[0][1])


def test_where_all_images_have_a_label_an_epoch_is_that_of_the_images(dataset):
    batches = compiler.batches(labeled("all"), dataset)
    plain = compiler.batches(member(2, data__redraw="once"), dataset)
    found, expected = epochs(batches, 1), epochs(plain, 1)
    assert (batches.unlabeled_share, batches.full) == (0.0, 32)
    for (x, y), (same, none) in zip(found, expected, strict=True):
        assert torch.equal(x, same)
        assert none is None
        assert y.shape == (2, 32)
    labels = torch.cat([y for _, y in found], dim=1)
    assert labels[0].bincount(minlength=10).sum() == 320


def test_the_supervised_baseline_sees_labeled_images_alone_in_as_many_steps(dataset):
    both, alone = (compiler.batches(labeled(objective__classification=value), dataset) for value in (0.1, "only"))
    assert (alone.steps, alone.full) == (both.steps, 15)
    for (x, y), (own, labels) in zip(epochs(both, 1), epochs(alone, 1), strict=True):
        assert torch.equal(x[:, 32:], own)
        assert torch.equal(y, labels)
    assert alone.whole(Streams([0]).begin("statistics")).shape == (1, 9 * 15, 64)


def test_an_epoch_as_one_batch_has_both_kinds_of_images_at_their_share(dataset):
    batches = compiler.batches(labeled(), dataset)
    whole = batches.whole(Streams([0]).begin("statistics"))
    assert whole.shape == (1, 300 + 9 * 15, 64)
    assert torch.equal(whole[0, :300], batches.images[batches.sets([0])[0][0]].float())


def test_labels_without_enough_images_of_a_class_or_of_other_classes_are_refused(dataset):
    with pytest.raises(
        DataError, match=r"digits: 300 labeled images are 30 of each of 10 classes, and of class 5 there are 27"
    ):
        compiler.batches(labeled(300), dataset)
    other = labeled(20, model__classes={"mlp": [6], "count": 4})
    with pytest.raises(DataError, match="its training images are of 10 classes, and the model is one of 4"):
        compiler.batches(other, dataset)


def test_classes_are_places_among_the_labels_of_all_training_images(dataset):
    assert dataset.every_class == tuple(range(10))
    few = load_dataset(member(2, data__train_images=3).data)
    assert few.every_class == tuple(range(10))
    assert dataset.class_indices(np.array([9, 0, 11, -3])).tolist() == [9, 0, -1, -1]
