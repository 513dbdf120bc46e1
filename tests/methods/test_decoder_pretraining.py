"""Pretraining of the decoder: the encoder keeps its bits, and the error decreases."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fgssl.batch import Batch
from fgssl.methods.decoder_pretraining import DecoderPretraining
from tests.one_process import accumulate_gradient


@pytest.fixture
def pretraining(tiny_method: Callable[..., Any]) -> DecoderPretraining:
    method = tiny_method("method={name: decoder}")
    assert isinstance(method, DecoderPretraining)
    return method


def test_the_encoder_is_left_as_it_was_and_the_error_falls(
    pretraining: DecoderPretraining, random_batch: Callable[..., Batch]
) -> None:
    before = {key: value.clone() for key, value in pretraining.encoder.state_dict().items()}
    optimizer = torch.optim.Adam(pretraining.trained_parameters(), lr=1e-2)
    batch, errors = random_batch(), []
    for _ in range(60):
        optimizer.zero_grad()
        output, _, target = accumulate_gradient(pretraining, batch, 32, 0)
        optimizer.step()
        errors.append(output.loss.item())
    assert target is None
    assert errors[-1] < 0.8 * errors[0]
    assert all(torch.equal(value, before[key]) for key, value in pretraining.encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in pretraining.encoder.parameters())


def test_only_the_decoder_is_trained(pretraining: DecoderPretraining) -> None:
    trained = {id(parameter) for parameter in pretraining.trained_parameters()}
    assert trained == {id(parameter) for parameter in pretraining.decoder.parameters()}
    assert pretraining.exports() == {"encoder": pretraining.encoder, "decoder": pretraining.decoder}


def test_the_error_is_the_mean_square_over_pixels(
    pretraining: DecoderPretraining, random_batch: Callable[..., Batch]
) -> None:
    batch = random_batch()
    assert batch.original is not None
    rebuilt = pretraining.decoder(pretraining.encoder(batch.original))
    online = pretraining.online(batch, None)
    expected = torch.stack([((a - b) ** 2).mean() for a, b in zip(rebuilt, batch.original, strict=True)])
    torch.testing.assert_close(online["reconstruction_error"], expected)
    torch.testing.assert_close(pretraining.loss(online, None, 0.0).loss, expected.mean())
