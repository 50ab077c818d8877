"""Adam's steps and its state, against torch's class; a training does not load torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from edgerec.models.adam import Adam


@pytest.mark.parametrize("fused", [True, False])
def test_it_steps_as_torchs_class_to_the_bit_and_goes_on_from_its_state(fused: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(5, 3, generator=generator), torch.randn(4, generator=generator)
    theirs = [first.clone(), second.clone()]
    reference = torch.optim.Adam(
        [{"params": theirs[:1], "lr": 0.1}, {"params": theirs[1:], "lr": 0.02}], weight_decay=0.01, fused=fused
    )

    def mine() -> Adam:
        return Adam({"a": first.clone(), "b": second.clone()}, decay=0.01, fused=fused)

    adam = mine()
    assert adam.count == 19
    assert adam.state().keys() == {"a", "b"}
    for _ in range(5):
        gradients = [torch.randn(tensor.shape, generator=generator) for tensor in theirs]
        for tensor, gradient in zip(theirs, gradients, strict=True):
            tensor.grad = gradient
        reference.step()
        adam.step(gradients, [0.1, 0.02])
        following = mine()
        following.restore({**adam.state(), "another": first.numpy()})
        adam = following
    for tensor, expected in zip(adam.tensors, theirs, strict=True):
        assert torch.equal(tensor, expected)


def test_a_training_does_not_load_torchs_compiler() -> None:
    code = (
        "import sys; from edgerec.api import train; from edgerec.data import synthetic\n"
        "train(synthetic(n_users=40, n_items=30, n=600, seed=0), backbone='mf', dimensions=4, max_epochs=1)\n"
        "assert 'torch' in sys.modules; assert 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
