"""Cross-entropy: a linear classifier on the encoder's features, trained with the encoder or on a frozen one."""

import torch.nn.functional as F
from torch import Tensor, nn

from fgssl.batch import Batch, Embeddings, Output
from fgssl.losses import at_least_fp32
from fgssl.methods.build import Parts
from fgssl.methods.method import Method
from fgssl.settings.methods import CrossEntropySettings


class CrossEntropy(Method):
    """Encoder and linear classifier, trained on the labels of one level."""

    online_views = (0,)

    def __init__(self, settings: CrossEntropySettings, parts: Parts) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = parts.encoder
        self.classifier = nn.Linear(parts.feature_width, parts.classes[settings.level])
        parts.load_start("classifier", self.classifier)

    def online(self, batch: Batch, target: Tensor | None) -> Embeddings:
        """Return `logits` (N, classes) and `labels` (N,)."""
        logits = self.classifier(self.encoder(batch.views[0]))  # (N, classes)
        return {"logits": logits, "labels": batch.labels[:, self.settings.level]}

    def loss(self, online: Embeddings, target: Tensor | None, progress: float) -> Output:
        """Return the cross-entropy, and the training accuracy in percent."""
        logits, labels = at_least_fp32(online["logits"]), online["labels"]
        loss = F.cross_entropy(logits, labels)
        correct = (logits.detach().argmax(dim=1) == labels).float().mean()
        return Output(loss, {"training_accuracy": 100 * correct})

    def exports(self) -> dict[str, nn.Module]:
        """Return the encoder and the classifier."""
        return {"encoder": self.encoder, "classifier": self.classifier}
