"""Accuracy and balanced accuracy of classified images."""

from torch import Tensor, bincount


def accuracies(correct: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the accuracy and the balanced accuracy in percent.

    Balanced accuracy is the mean of the recalls of the classes, so that a rare class counts as much as a frequent one.
    It equals the accuracy if all classes have equally many images.

    Args:
        correct: (M,) booleans, whether each image is classified correctly.
        labels: (M,) class of each image; only classes that occur here have a recall.
    """
    classes, class_of_image, images = labels.unique(return_inverse=True, return_counts=True)
    hits = bincount(class_of_image[correct], minlength=len(classes))
    return 100 * int(correct.sum()) / len(labels), 100 * float((hits.double() / images).mean())
