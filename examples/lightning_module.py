"""A LightningModule tuned with the whole job: `python examples/lightning_module.py [FOLDER]`.

`pip install 'prunetune[vision]' lightning`.
"""

import sys

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset
from train_digits import IMAGES, LABELS, build

import prunetune
from prunetune.interop.lightning import LightningReport

TRAIN = DataLoader(TensorDataset(IMAGES[:1400], LABELS[:1400]), batch_size=64, shuffle=True)
VAL = DataLoader(TensorDataset(IMAGES[1400:], LABELS[1400:]), batch_size=512)


class Digits(lightning.LightningModule):
    def __init__(self, network, rate):
        super().__init__()
        self.network, self.rate = network, rate

    def training_step(self, batch):
        return torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch):
        self.log("accuracy", (self.network(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate, momentum=0.9)


def train(model, params, report):  # two things in it are prunetune's: the model and the callback
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=report.epochs, callbacks=[LightningReport(report, "accuracy")], **options)
    trainer.fit(Digits(model, params["learning_rate"]), TRAIN, VAL)
    return trainer.callback_metrics["accuracy"].item()


space = {"learning_rate": prunetune.Float(1e-3, 1.0, log=True)}
search = prunetune.Search(direction="maximize", n_trials=3, confirm=1)
folder = sys.argv[1] if len(sys.argv) > 1 else "runs/lightning"
options = {"search": search, "pruning": prunetune.Pruning(optimizers="sgd")}  # corrects what configure_optimizers makes
result = prunetune.tune(build, train, space, example_inputs=IMAGES[:64], epochs=2, run_dir=folder, **options)
print(f"best on the full network: {result.params}, accuracy {result.score:.3f}")
