_base_ = [
    '../_base_/models/fpn_lolvit_x.py',
    '../_base_/datasets/scenes_seg.py',
    '../_base_/schedules/adamw_1500.py',
    '../_base_/seg_runtime.py',
]

# A neck and a head of a quarter of the width, for small pictures of few classes.
model = dict(
    neck=dict(out_channels=64, norm_cfg=dict(type='BN')),
    decode_head=dict(
        num_classes=11,
        in_channels=[64, 64, 64, 64],
        channels=64,
        loss_decode=_base_.loss_decode,
    ),
)
