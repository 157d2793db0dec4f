"""What an image shows: learned from whole images, asked where there are no labels."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from agmm.errors import InputError
from agmm.mixture import AGMMLoss, inputs
from agmm.mixture.presence import SHRINKAGE, PresenceModel, image_vectors, presence_prior
from tests.mixture.plain import plain_loss

Make = Callable[..., dict[str, Any]]


def random_images(number: int = 60, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of 2 x 3 channels and four classes; the first is in all images, the last in none."""
    generator = torch.Generator().manual_seed(seed)
    shown = torch.rand(number, 4, generator=generator) < 0.4
    shown[:, 0], shown[:, 3] = True, False
    moved = shown.double() @ torch.randn(4, 6, generator=generator, dtype=torch.float64)
    noise = torch.randn(number, 6, generator=generator, dtype=torch.float64)
    return moved + noise @ torch.randn(6, 6, generator=generator, dtype=torch.float64), shown


def test_vectors_by_hand() -> None:
    features = torch.tensor([[[1.0, 3.0, 5.0], [-1.0, -1.0, 2.0]]])
    assert image_vectors(features).tolist() == [[3.0, 0.0, 5.0, 2.0]]


def test_scores_are_those_of_an_independent_discriminant() -> None:
    """Against scikit-learn, given the covariance of all images shrunk to its diagonal."""
    vectors, shown = random_images()
    model = PresenceModel(4, 3).double()
    model.fit(vectors, shown)
    features = torch.randn(5, 3, 7, dtype=torch.float64)
    scores = model.scores(features)
    covariance = torch.cov(vectors.T, correction=0)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * covariance.diag().diag()

    class Given:
        """A covariance estimator in the way of scikit-learn that gives ours."""

        def fit(self, data: Any) -> "Given":
            del data
            self.covariance_ = shrunk.numpy()
            return self

    for k in (1, 2):
        reference = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Given())
        reference.fit(vectors.numpy(), shown[:, k].numpy())
        expected = reference.decision_function(image_vectors(features).numpy())
        torch.testing.assert_close(scores[:, k], torch.from_numpy(expected))
    assert (scores[:, [0, 3]] == 0).all()


def test_what_does_not_hold_for_other_images_is_not_said() -> None:
    """In each half the vectors tell the classes, but in the second the other way round."""
    vectors, shown = random_images()
    model = PresenceModel(4, 3).double()
    model.fit(torch.cat([vectors, vectors]), torch.cat([shown, shown]))
    assert (model.axes[1:3] != 0).any()
    model.fit(torch.cat([vectors, -vectors]), torch.cat([shown, shown]))
    assert (model.axes == 0).all()
    assert (model.offsets == 0).all()


def test_nothing_is_said_before_and_after_nothing() -> None:
    model = PresenceModel(4, 3)
    features = torch.randn(2, 3, 5)
    assert (model.scores(features) == 0).all()
    model.fit(torch.zeros(0, 6), torch.zeros(0, 4, dtype=torch.bool))
    assert (model.scores(features) == 0).all()


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_channel_that_never_fires_or_always_alike_does_no_harm(value: float) -> None:
    vectors, shown = random_images()
    silent = torch.cat([vectors[:, :2], torch.full((60, 1), value), vectors[:, 3:]], 1)
    model = PresenceModel(4, 3).double()
    model.fit(silent, shown)
    assert model.axes.isfinite().all()
    assert model.axes[:, 2].abs().max() < 1e-12
    assert (model.axes[1:3, 0] != 0).all()


def test_prior_by_hand() -> None:
    """The log-odds where they speak against a class, in the one image of which nothing is known."""
    scores = torch.tensor([[-2.0, 3.0]]).repeat(3, 1)
    candidates = torch.tensor([[True, True], [True, True], [True, False]]).unsqueeze(2)
    labelled = torch.tensor([[False, False], [False, True], [False, False]])
    prior = presence_prior(scores, candidates, labelled)
    assert prior.squeeze(2).tolist() == [[-2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


def test_an_image_without_labels_is_spread_over_what_it_shows(make_batch: Make) -> None:
    """Posterior ∝ posterior without · exp(min(0, log-odds)); in training mode nothing is asked."""
    with_it, without = plain_loss(4, 3, presence=True), plain_loss(4, 3, presence=False)
    for objective in (with_it, without):
        for seed in range(3):
            objective(**make_batch(seed=seed, dtype=torch.float32))
        objective.presence_model.fit(*random_images())
        objective.double()
    batch = make_batch()
    batch["seeds"][0] = 255
    torch.testing.assert_close(with_it(**batch).posterior, without(**batch).posterior)
    with_it.eval()
    without.eval()
    found, plain = with_it(**batch).posterior, without(**batch).posterior
    odds = with_it.presence_model.scores(batch["features"].detach().flatten(2)).clamp(max=0)
    assert odds[0].min() < -0.1
    expected = plain * odds.exp()[:, :, None, None]
    torch.testing.assert_close(found[0], expected[0] / expected[0].sum(0))
    torch.testing.assert_close(found[1], plain[1])


@pytest.mark.parametrize("readable", [True, False])
def test_padding_is_no_part_of_the_image(
    make_batch: Make, monkeypatch: pytest.MonkeyPatch, *, readable: bool
) -> None:
    """A picture of 6x4 pixels in one of 6x8, and one that is all padding."""
    monkeypatch.setattr(inputs, "readable", lambda *_: readable)
    objective = AGMMLoss(4, 3).double()
    for seed in range(3):
        objective(**make_batch(seed=seed))
    objective.presence_model.fit(*random_images())
    objective.eval()
    batch = make_batch(labelled=0.0)
    wide = {name: batch[name].detach() for name in ("logits", "features", "seeds")}
    narrow = {name: maps[..., : maps.shape[-1] // 2] for name, maps in wide.items()}
    wide["features"][..., 2:] = 9.0
    wide["valid"] = torch.zeros(2, 6, 8, dtype=torch.bool)
    wide["valid"][0, :, :4] = True
    found, expected = objective(**wide).posterior, objective(**narrow).posterior
    torch.testing.assert_close(found[0, ..., :2], expected[0])
    assert found.isfinite().all()
    plain = AGMMLoss(4, 3, presence=False).double().eval()
    plain.load_state_dict(objective.state_dict())
    assert (plain(**narrow).posterior[0] - expected[0]).abs().max() > 0.01


@pytest.mark.parametrize("presence", [True, False])
def test_what_it_says_is_kept_with_the_objective(make_batch: Make, presence: bool) -> None:
    trained, loaded = (AGMMLoss(4, 3, presence=presence).eval() for _ in range(2))
    trained.presence_model.fit(*random_images())
    loaded.load_state_dict(trained.state_dict())
    batch = make_batch(labelled=0.0, dtype=torch.float32)
    assert torch.equal(loaded(**batch).posterior, trained(**batch).posterior)


def test_vectors_are_of_what_the_mixture_sees() -> None:
    images = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    features = torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(1))
    assert AGMMLoss(4, 3).image_vectors(features).shape == (2, 6)
    coloured = AGMMLoss(4, 3, appearance=1.0)
    vectors = coloured.image_vectors(features, images)
    assert vectors.shape == (2, coloured.presence_model.axes.shape[1])
    assert (vectors != coloured.image_vectors(features, 0 * images)).any()


def test_vectors_leave_out_padding() -> None:
    images = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    features = torch.randn(2, 3, 3, 4, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(2, 12, 16).bool()
    valid[1, :, 9:] = False  # the third of the four columns still has a pixel of the picture
    found = AGMMLoss(4, 3).image_vectors(features, images, valid=valid)
    torch.testing.assert_close(found[0], AGMMLoss(4, 3).image_vectors(features)[0])
    torch.testing.assert_close(found[1], AGMMLoss(4, 3).image_vectors(features[..., :3])[1])
    torch.testing.assert_close(AGMMLoss(4, 3).image_vectors(features, valid=valid), found)


def test_vectors_are_the_same_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 5, 7, generator=generator)
    features = torch.randn(2, 3, 4, 5, generator=generator)  # cells that share pixels
    objective = AGMMLoss(4, 3, appearance=1.0)
    expected = objective.image_vectors(features, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(objective.image_vectors(features, images), expected)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("features", {"features": torch.zeros(2, 4, 3, 4)}),
        ("features", {"features": torch.zeros(2, 3, 12)}),
        ("features", {"features": torch.zeros(2, 3, 3, 4, dtype=torch.int64)}),
        ("images", {"images": torch.zeros(1, 3, 6, 8)}),
        ("images", {"images": torch.zeros(3, 6, 8)}),
        ("images", {"images": torch.zeros(2, 3, 6, 8, dtype=torch.uint8)}),
        ("valid", {"valid": torch.ones(2, 6, 7).bool()}),
        ("valid", {"valid": torch.ones(2, 3, 6, 8).bool()}),
        ("valid", {"valid": torch.ones(2, 6, 8)}),
    ],
)
def test_vectors_of_wrong_arguments_are_refused(name: str, wrong: dict[str, torch.Tensor]) -> None:
    given = {"features": torch.zeros(2, 3, 3, 4), "images": torch.zeros(2, 3, 6, 8), **wrong}
    with pytest.raises(InputError, match=rf"^{name}: expected .* got .*; "):
        AGMMLoss(4, 3, appearance=1.0).image_vectors(**given)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("name", "vectors", "shown"),
    [
        ("vectors", torch.zeros(8, 5), torch.zeros(8, 4).bool()),
        ("vectors", torch.zeros(6), torch.zeros(8, 4).bool()),
        ("vectors", torch.zeros(8, 6).long(), torch.zeros(8, 4).bool()),
        ("shown", torch.zeros(8, 6), torch.zeros(8, 1).bool()),
        ("shown", torch.zeros(8, 6), torch.zeros(7, 4).bool()),
        ("shown", torch.zeros(8, 6), torch.zeros(8, 4).long()),
    ],
)
def test_a_wrong_table_of_images_is_refused(
    name: str, vectors: torch.Tensor, shown: torch.Tensor
) -> None:
    model = PresenceModel(4, 3)
    with pytest.raises(InputError, match=rf"^{name}: expected .* got .*; "):
        model.fit(vectors, shown)
    assert not model.axes.any()


RANK = """
import sys, torch, torch.distributed as dist
from agmm.mixture.presence import PresenceModel
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
vectors, shown = torch.load(f"{folder}/images.pt")
part = slice(0, 0) if rank else slice(0, None)  # the second process has no picture
if sys.argv[3] == "half":
    part = slice(rank, None, 2)
model = PresenceModel(4, 3).double()
model.fit(vectors[part], shown[part])
torch.save(model.state_dict(), f"{folder}/rank{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.parametrize("parts", ["half", "all"])
def test_processes_learn_from_the_images_of_all(tmp_path: Path, parts: str) -> None:
    images = random_images()
    torch.save(images, tmp_path / "images.pt")
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path), parts])
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in ranks] == [0, 0]
    single = PresenceModel(4, 3).double()
    single.fit(*images)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"rank{rank}.pt"), single.state_dict())
