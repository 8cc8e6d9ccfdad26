_base_ = [
    '../_base_/models/deeplabv3plus_lolvit_x.py',
    '../_base_/datasets/scenes_seg.py',
    '../_base_/schedules/adamw_1500.py',
    '../_base_/seg_runtime.py',
]

model = dict(
    decode_head=dict(
        num_classes=11,
        channels=64,
        dilations=(1, 2, 3),  # a map of 5 x 5 has no room for more
        loss_decode=_base_.loss_decode,
    )
)
