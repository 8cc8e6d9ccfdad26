_base_ = [
    '../_base_/models/fpn_lolvit_x.py',
    '../_base_/datasets/scenes_seg.py',
    '../_base_/schedules/adamw.py',
    '../_base_/seg_runtime.py',
]

# A neck and a head of a quarter of the width, for small pictures of few classes.
model = dict(
    neck=dict(out_channels=64),
    decode_head=dict(num_classes=11, in_channels=[64, 64, 64, 64], channels=64),
)
iterations = 1500
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations
)
param_scheduler = dict(type='OneCycleLR', eta_max=2e-3, by_epoch=False, total_steps=iterations)
default_hooks = dict(checkpoint=dict(interval=500))
