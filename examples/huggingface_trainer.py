"""Hugging Face's Trainer tuned with the whole job: `python examples/huggingface_trainer.py [FOLDER]`.

`pip install 'prunetune[vision]' transformers accelerate`.
"""

import sys
import tempfile

from train_digits import IMAGES, LABELS
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import prunetune
from prunetune.interop.transformers import TransformersReport

SIZES = {"image_size": 8, "patch_size": 2, "num_channels": 1, "num_labels": 10}
CONFIG = ViTConfig(hidden_size=64, intermediate_size=128, num_attention_heads=4, num_hidden_layers=2, **SIZES)
ROWS = [{"pixel_values": image, "labels": label} for image, label in zip(IMAGES, LABELS, strict=True)]
QUIET = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}


def build():
    return ViTForImageClassification(CONFIG)


def train(model, params, report):
    options = TrainingArguments(
        tempfile.mkdtemp(), learning_rate=params["learning_rate"], num_train_epochs=report.epochs,
        eval_strategy="epoch", seed=report.seed, per_device_train_batch_size=32, **QUIET,
    )  # fmt: skip
    trainer = Trainer(
        model, options, train_dataset=ROWS[:1400], eval_dataset=ROWS[1400:],
        compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())},
        callbacks=[TransformersReport(report, "eval_accuracy")],
    )  # fmt: skip
    trainer.train()
    return trainer.evaluate()["eval_accuracy"]


space = {"learning_rate": prunetune.Float(1e-3, 1e-2, log=True)}
folder = sys.argv[1] if len(sys.argv) > 1 else "runs/trainer"
asked = {"search": prunetune.Search(direction="maximize", n_trials=3, confirm=1), "epochs": 4, "run_dir": folder}
asked["pruning"] = prunetune.Pruning(optimizers="adam")  # corrects what the trainer makes
result = prunetune.tune(build, train, space, example_inputs={"pixel_values": IMAGES[:64]}, **asked)
print(f"best on the full network: {result.params}, accuracy {result.score:.3f}")
