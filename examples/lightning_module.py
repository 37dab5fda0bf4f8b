"""A LightningModule whose network is the proxy: `python examples/lightning_module.py`. Two lines are prunetune's.

`pip install 'prunetune[vision]' lightning`.
"""

import lightning
import optuna
import torch
from torch.utils.data import DataLoader, TensorDataset
from train_digits import IMAGES, LABELS, build

import prunetune

build_proxy = prunetune.proxy_of(build, IMAGES[:64])  # the first line
TRAIN = DataLoader(TensorDataset(IMAGES[:1400], LABELS[:1400]), batch_size=64, shuffle=True)
VAL = DataLoader(TensorDataset(IMAGES[1400:], LABELS[1400:]), batch_size=512)


class Digits(lightning.LightningModule):
    def __init__(self, learning_rate):
        super().__init__()
        self.learning_rate, self.network = learning_rate, build_proxy()  # the second line: it was build()

    def training_step(self, batch):
        return torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch):
        self.log("accuracy", (self.network(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=0.9)


def objective(trial):
    lightning.seed_everything(trial.number, verbose=False)
    trainer = lightning.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Digits(trial.suggest_float("learning_rate", 1e-3, 1.0, log=True)), TRAIN, VAL)
    return trainer.callback_metrics["accuracy"].item()


if __name__ == "__main__":
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=3)
    print(f"best on the proxy: {study.best_params}, accuracy {study.best_value:.3f}")
