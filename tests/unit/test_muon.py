"""Our Muon is the library's, in fp32."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from bohdi_common.models.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(64, 64), (192, 64), (64, 192)])
def test_an_orthogonalised_matrix_has_singular_values_near_one(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrices))
    assert values.median() == pytest.approx(1.0, abs=0.3)
    assert values.max() < 1.3


def test_ten_steps_move_the_weights_as_the_library_s_muon_does():
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in ((64, 64), (192, 64), (64, 64))]
    targets = [torch.randn_like(weight) for weight in start]
    settings = {"lr": 1e-2, "weight_decay": 0.02}
    ours = _after_ten_steps(partial(Muon, **settings), start, targets)
    library = _after_ten_steps(partial(torch.optim.Muon, adjust_lr_fn="match_rms_adamw", **settings), start, targets)
    for mine, theirs, before in zip(ours, library, start, strict=True):
        # The library iterates in bf16: eight bits of mantissa.
        assert (mine - theirs).norm() < 0.05 * (theirs - before).norm()


def test_a_step_moves_the_weights_and_keeps_its_momentum_by_parameter():
    weight = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = Muon([weight], lr=0.1)
    weight.grad = torch.eye(4)
    optimizer.step()
    assert not torch.equal(weight, torch.ones(4, 4))
    assert optimizer.state_dict()["state"][0]["momentum"].shape == (4, 4)


def test_a_parameter_without_gradient_stays():
    weight = torch.nn.Parameter(torch.ones(4, 4))
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(weight, torch.ones(4, 4))


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match=r"matrices, not a parameter of shape \(8,\)"):
        Muon([torch.nn.Parameter(torch.ones(8))], lr=0.1)


def _after_ten_steps(make, start, targets):
    weights = [torch.nn.Parameter(weight.clone()) for weight in start]
    optimizer = make(weights)
    for _ in range(10):
        optimizer.zero_grad()
        sum(((weight - target) ** 2).sum() for weight, target in zip(weights, targets, strict=True)).backward()
        optimizer.step()
    return [weight.detach() for weight in weights]
