"""What in an image speaks for a class."""

from dataclasses import dataclass

import numpy as np
from mmengine.dataset import pseudo_collate

from ..errors import UserError
from .frame import find_frame, find_stride


@dataclass(frozen=True)
class GradCAM:
    """What in an image speaks for a class.

    Attributes:
        heat (ndarray): (H, W) of the backbone's last map, 0 or more.
        extent (tuple): left, right, bottom, top of the map in px of the image.
        label (int): The class.
        score (float): The model's for that class, 0 to 1.
        predicted (int): The class of the best score.
    """

    heat: np.ndarray
    extent: tuple[float, float, float, float]
    label: int
    score: float
    predicted: int


def grad_cam(predictor, image, label: int | None = None) -> GradCAM:
    """Grad-CAM (Selvaraju et al., 2017) on the last map of a classifier's backbone, by captum.

    Args:
        predictor (mmlolvit.inference.Predictor): Of classification.
        image: As the predictor takes it.
        label (int, optional): The class asked about; default: the predicted one.

    Raises:
        UserError: Of another task, for a class that there is not, and for a backbone whose last
            output is no map.
    """
    from captum.attr import LayerGradCam  # not everybody's

    if predictor.task.scope != 'mmpretrain':
        raise UserError(
            'Grad-CAM explains the score of a class: expected a config of classification '
            f'(mmpretrain), got one of {predictor.task.scope}'
        )
    sample = predictor.read(image)
    answer = predictor(sample['img'])
    number = len(answer['scores'])
    label = answer['label'] if label is None else label
    if not 0 <= label < number:
        raise UserError(f'label {label}: expected 0 to {number - 1}, for {number} classes')
    model = predictor.model
    data = pseudo_collate([sample['prepared']])
    inputs = model.data_preprocessor(data, False)['inputs']
    heat = LayerGradCam(model, model.backbone).attribute(inputs, label, relu_attributions=True)
    heat = heat[-1] if isinstance(heat, tuple) else heat
    if heat.dim() != 4:
        raise UserError(
            f'Grad-CAM needs a backbone whose last output is a map (B, C, H, W); that of '
            f'{type(model.backbone).__name__} has {heat.dim()} dimensions'
        )
    frame = find_frame(predictor, *sample['img'].shape[:2])
    (left, right), (top, bottom) = (
        frame.to_image(axis, [0, number * find_stride(side, number)])
        for axis, side, number in zip((0, 1), inputs.shape[:1:-1], heat.shape[:1:-1], strict=True)
    )
    return GradCAM(
        heat[0, 0].detach().cpu().numpy(),
        (left, right, bottom, top),
        label,
        float(answer['scores'][label]),
        answer['label'],
    )
