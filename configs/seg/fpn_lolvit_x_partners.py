# Which of two digits, far from each other, are equal? The masks mark no other.
_base_ = [
    '../_base_/models/fpn_lolvit_x.py',
    '../_base_/datasets/partners_seg.py',
    '../_base_/schedules/adamw_1500.py',
    '../_base_/seg_runtime.py',
]

model = dict(
    neck=dict(out_channels=64, norm_cfg=dict(type='BN')),
    decode_head=dict(
        num_classes=2,
        in_channels=[64, 64, 64, 64],
        channels=64,
        loss_decode=_base_.loss_decode,
    ),
)
param_scheduler = dict(eta_max=4e-3)
