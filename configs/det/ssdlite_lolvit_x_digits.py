_base_ = [
    '../_base_/models/ssdlite_lolvit_x.py',
    '../_base_/datasets/scenes_det.py',
    '../_base_/schedules/adamw_onecycle.py',
    '../_base_/det_runtime.py',
]

# For 160 x 160: maps of 20, 10, 5 and 3 positions a side, and boxes of 10 to 64 px.
widths = (80, 304, 432, 128)
model = dict(
    backbone=dict(out_indices=(1, 2, 3)),
    neck=dict(in_channels=widths[:3], out_channels=widths, level_strides=(2,), level_paddings=(1,)),
    bbox_head=dict(
        num_classes=10,
        in_channels=widths,
        anchor_generator=dict(
            strides=[8, 16, 32, 53],
            ratios=[[2, 3]] * 4,
            min_sizes=[12, 20, 36, 60],
            max_sizes=[20, 36, 60, 84],
        ),
    ),
)
train_cfg = dict(max_epochs=12)
