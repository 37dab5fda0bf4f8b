"""A run logged to MLflow and TensorBoard while it goes on: `python examples/log_elsewhere.py [FOLDER]`.

`pip install 'prunetune[vision]' mlflow tensorboard`, then `tensorboard --logdir FOLDER/tensorboard` and
`mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db`.
"""

import sys
from pathlib import Path

import mlflow
from torch.utils.tensorboard import SummaryWriter
from train_digits import IMAGES, SPACE, build, train

import prunetune
from prunetune.events import EpochEnded, TrialEnded, TrialStarted

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/logged")
FOLDER.mkdir(parents=True, exist_ok=True)
mlflow.set_tracking_uri(f"sqlite:///{FOLDER}/mlflow.db")  # or the address of your server
board = SummaryWriter(FOLDER / "tensorboard")


def observe(event):
    if isinstance(event, TrialStarted):
        mlflow.start_run(run_name=f"{event.phase}-{event.number}")
        mlflow.log_params(dict(event.params))
    if isinstance(event, EpochEnded):
        mlflow.log_metric("score", event.score, step=event.epoch)
        board.add_scalar(f"{event.phase}/{event.number}", event.score, event.epoch)
    if isinstance(event, TrialEnded):
        mlflow.set_tag("outcome", event.outcome)
        mlflow.end_run("FAILED" if event.outcome == "failed" else "FINISHED")


search = prunetune.Search(direction="maximize", n_trials=6, confirm=1)
options = {"example_inputs": IMAGES[:64], "epochs": 2}
result = prunetune.tune(build, train, SPACE, run_dir=FOLDER / "run", search=search, observer=observe, **options)
board.close()
print(f"best on the full network: {result.params}, accuracy {result.score:.3f}")
