"""The training on texts: tokens, loss, score and rate by hand, and what a trial is told."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.common.reports import PlainReport
from prunetune.data._texts import LabelledTexts, TextParts
from prunetune.errors import InputError
from prunetune.training.text import TextHyperparameters, TextTraining, Tokens, loss_of
from prunetune.training.tokens import classified, load_tokenizer, modelled, padding_of
from tiny_texts import NUMBERS, tokenizer

GOOD, BAD, FILM = NUMBERS["good"], NUMBERS["bad"], NUMBERS["film"]


def labelled(*texts: str) -> LabelledTexts:
    return LabelledTexts(list(texts), torch.tensor([text.startswith("good") for text in texts]).long())


def test_short_texts_are_filled_up_and_long_ones_cut() -> None:
    parts = TextParts(labelled("good film", "bad"), labelled("bad film film film"), labelled("tree"))
    found = classified(parts, tokenizer(), 3)
    assert found.train.ids.tolist() == [[GOOD, FILM], [BAD, 0]]
    assert found.train.mask is not None
    assert found.train.mask.tolist() == [[1, 1], [1, 0]]
    assert found.val.ids.tolist() == [[BAD, FILM]]  # no longer than those for training
    assert found.test.ids.tolist() == [[1, 0]]  # a word that the tokenizer does not know
    assert set(found.train.inputs()) == {"input_ids", "attention_mask"}


def test_plain_text_is_in_pieces() -> None:
    found = modelled(TextParts("good film bad film film", "bad film", "film bad good"), tokenizer(), 2)
    assert found.train.ids.tolist() == [[GOOD, FILM], [BAD, FILM]]
    assert found.test.ids.tolist() == [[FILM, BAD]]
    assert set(found.val.inputs()) == {"input_ids"}
    with pytest.raises(InputError, match=r"the text for val has 1 tokens, and a piece has data\.length = 2; lower"):
        modelled(TextParts("good film", "bad", "good film"), tokenizer(), 2)


def test_what_fills_up_is_the_end_where_there_is_nothing_else() -> None:
    ends = tokenizer()
    ends.pad_token, ends.eos_token = None, "film"
    assert padding_of(ends) == FILM
    ends.eos_token = None
    with pytest.raises(InputError, match="no padding token and none for an end"):
        padding_of(ends)


def test_a_folder_without_a_tokenizer(tmp_path: Any) -> None:
    with pytest.raises(InputError, match=r"there is no tokenizer in .*; give data\.tokenizer"):
        load_tokenizer(str(tmp_path))


def test_the_loss_is_of_the_next_token() -> None:
    """Of the three tokens the last two are predicted, with probabilities 1/2 and 1/4."""
    probabilities = torch.tensor([[[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [1e-9, 1e-9, 1.0]]])
    batch = Tokens(torch.tensor([[2, 0, 2]]))
    assert loss_of(probabilities.log(), batch).item() == pytest.approx((math.log(2) + math.log(4)) / 2, abs=1e-6)


def test_the_rate_rises_and_falls() -> None:
    rate = TextHyperparameters(warmup=0.2).rate
    assert [round(rate(at), 6) for at in (0.0, 0.1, 0.2, 0.6, 1.0)] == [0.0, 0.5, 1.0, 0.5, 0.0]


class Words(nn.Module):
    """Classes by the first token, or the next token by the last; a plain tensor, not an output of transformers."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.table = nn.Embedding(len(NUMBERS), outputs)
        self.outputs = outputs
        self.modes: list[bool] = []

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        self.modes.append(self.training)
        found = self.table(input_ids)
        return found if attention_mask is None else found[:, 0]


def texts_of_words() -> TextParts[Tokens]:
    part = labelled(*["good film", "bad film"] * 8)
    return classified(TextParts(part, part, part), tokenizer(), 4)


def test_it_learns_and_reports_every_epoch() -> None:
    torch.manual_seed(0)
    model, report, job = Words(2), PlainReport(0, 3), TextTraining(texts_of_words())
    score = job(model, {"learning_rate": 0.5, "batch_size": 4}, report)
    assert score == report.scores[-1] == 1.0
    assert len(report.scores) == 3
    assert job.evaluate(model) == {"accuracy": 1.0}
    assert model.modes[0] is True
    assert model.modes[-1] is False


def test_a_score_by_hand() -> None:
    job, model = TextTraining(texts_of_words()), Words(2)
    with torch.no_grad():
        model.table.weight.zero_()
        model.table.weight[:, 0] = 1.0  # all are bad
    assert job.score(model, job.parts.val) == 0.5
    plain = modelled(TextParts("good film", "good film", "good film"), tokenizer(), 2)
    model = Words(len(NUMBERS))
    nn.init.zeros_(model.table.weight)
    assert TextTraining(plain).evaluate(model) == {"loss": pytest.approx(math.log(len(NUMBERS)))}


def test_the_same_seed_gives_the_same_weights() -> None:
    def trained(seed: int) -> torch.Tensor:
        torch.manual_seed(0)
        model = Words(2)
        TextTraining(texts_of_words())(model, {"learning_rate": 0.1, "batch_size": 3}, PlainReport(seed, 2))
        return model.table.weight.detach()

    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))


def test_what_diverges_is_nan() -> None:
    report = PlainReport(0, 3)
    model = Words(2)
    nn.init.constant_(model.table.weight, math.inf)
    assert math.isnan(TextTraining(texts_of_words())(model, {"batch_size": 4}, report))
    assert len(report.scores) == 1


def test_a_share_of_the_texts_is_the_same_for_all() -> None:
    job = TextTraining(texts_of_words(), seed=3)
    half = job.texts_at(0.5)
    assert len(half) == 8
    assert job.texts_at(0.5) is half
    assert torch.equal(TextTraining(texts_of_words(), seed=3).texts_at(0.5).ids, half.ids)
    with pytest.raises(InputError, match=r"0\.01 of 16 training examples is none"):
        job.texts_at(0.01)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"batch_size": 17}, "batch_size 17 is impossible: there are 16 training texts"),
        ({"momentum": 0.9}, "unknown hyperparameter 'momentum'"),
    ],
)
def test_what_cannot_be(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        TextTraining(texts_of_words())(Words(2), params, PlainReport(0, 1))
