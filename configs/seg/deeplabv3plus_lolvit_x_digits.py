_base_ = [
    '../_base_/models/deeplabv3plus_lolvit_x.py',
    '../_base_/datasets/scenes_seg.py',
    '../_base_/schedules/adamw_1500.py',
    '../_base_/seg_runtime.py',
]

# From stride 16: at stride 32 a digit has no position of its own.
model = dict(
    backbone=dict(out_indices=(0, 2)),
    decode_head=dict(
        num_classes=11,
        in_channels=304,
        channels=64,
        dilations=(1, 2, 4, 6),
        loss_decode=_base_.loss_decode,
    ),
)
