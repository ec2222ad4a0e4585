"""How far training has moved a model's weights."""

import torch


@torch.inference_mode()
def weight_distance(model, base) -> float | None:
    """Return the Euclidean distance of two models' weights over the norm of the base's; tied weights count once.

    None where the two do not have the same weights by name and shape, as after a change of the vocabulary.
    """
    ours, theirs = (dict(one.named_parameters()) for one in (model, base))
    if {name: w.shape for name, w in ours.items()} != {name: w.shape for name, w in theirs.items()}:
        return None
    moved = size = 0.0
    for name, weights in theirs.items():
        moved += (ours[name].double() - weights.double().to(ours[name].device)).square().sum().item()
        size += weights.double().square().sum().item()
    return (moved / size) ** 0.5
