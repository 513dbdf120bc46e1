# %% [markdown]
# # From a sweep to its table, an encoder and features
#
# Make the results first, in about a minute on two cores: `fgssl sweep sweeps/smoke.yaml`.
# Jupyter (with jupytext), VS Code and Spyder open this file as a notebook; `python docs/examples/notebook.py` runs it.

# %%
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision.datasets import FakeData

import fgssl

SWEEP = Path("outputs/smoke-demo")

# %% [markdown]
# ## The table
# One row for each cell and metric, as in `table.csv`: means over the seeds that are done, also while the sweep is at
# work.

# %%
table = fgssl.read_table(SWEEP)
print(table.pivot(index="cell", columns="metric", values="mean").round(2))

# %% [markdown]
# ## The runs
# One row for each cell and seed, as in `rows.csv`, and the folder of its run.

# %%
rows = fgssl.read_rows(SWEEP)
print(rows[["cell", "seed", "state", "rank1", "mAP", "wall_s"]])

# %% [markdown]
# ## An encoder
# A timm model in evaluation mode; `transform` prepares PIL images as its evaluation did.

# %%
best = rows.loc[rows["mAP"].idxmax()]
encoder = fgssl.load_encoder(best["folder"])
print(best["cell"], encoder.transform.image_size, encoder.transform.mean, encoder.transform.std)

# %% [markdown]
# ## Features of other images
# Random ones stand in for yours here: `torchvision.datasets.ImageFolder("photos", transform=encoder.transform)`.

# %%
images = FakeData(size=64, image_size=(3, 48, 48), num_classes=4, transform=encoder.transform)
with torch.inference_mode():
    batches = [(encoder(pixels), labels) for pixels, labels in DataLoader(images, batch_size=32)]
features = torch.cat([found for found, _ in batches])
labels = torch.cat([found for _, found in batches])
print(features.shape)

# %% [markdown]
# ## Measures and losses
# Functions of tensors.

# %%
half = len(features) // 2
print(fgssl.evaluation.retrieval(features, labels))
print(fgssl.evaluation.weighted_knn(features[:half], labels[:half], features[half:], labels[half:]))
print(fgssl.losses.supcon(features, labels, temperature=0.1))
