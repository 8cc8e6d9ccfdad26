# COCO 2017 at 320 x 320, with SSD's zooms and crops.
_base_ = './coco_det.py'

resize = dict(type='Resize', scale=(320, 320), keep_ratio=False)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Expand', mean=_base_.data_preprocessor.mean, to_rgb=True, ratio_range=(1, 4)),
    dict(type='MinIoURandomCrop', min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    resize,
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='PhotoMetricDistortion',
        brightness_delta=32,
        contrast_range=(0.5, 1.5),
        saturation_range=(0.5, 1.5),
        hue_delta=18,
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1] = resize
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [resize]  # the anchors are made for this size
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    batch_sampler=None,
    drop_last=True,  # the neck's last map is 1 x 1: BatchNorm cannot train on a batch of one
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
del resize
