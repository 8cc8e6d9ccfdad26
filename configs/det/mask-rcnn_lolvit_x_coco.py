_base_ = [
    '../_base_/models/mask-rcnn_lolvit_x.py',
    '../_base_/datasets/coco_det.py',
    '../_base_/schedules/adamw_1x.py',
    '../_base_/det_runtime.py',
]

with_masks = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
train_pipeline = _base_.train_pipeline
train_pipeline[1] = with_masks
test_pipeline = _base_.test_pipeline
test_pipeline[2] = with_masks
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
data_preprocessor = dict(pad_mask=True)
