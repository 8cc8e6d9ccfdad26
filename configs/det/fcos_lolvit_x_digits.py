_base_ = [
    '../_base_/models/fcos_lolvit_x.py',
    '../_base_/datasets/scenes_det.py',
    '../_base_/schedules/adamw_onecycle.py',
    '../_base_/det_runtime.py',
]

# A quarter of the width, for small pictures of few classes; boxes of up to 64 px.
model = dict(
    neck=dict(out_channels=64, norm_cfg=dict(type='BN')),
    bbox_head=dict(
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        regress_ranges=((-1, 16), (16, 32), (32, 64), (64, 128), (128, 1e8)),
    ),
)
train_cfg = dict(max_epochs=12)
