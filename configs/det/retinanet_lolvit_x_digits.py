_base_ = [
    '../_base_/models/retinanet_lolvit_x.py',
    '../_base_/datasets/scenes_det.py',
    '../_base_/schedules/adamw_onecycle.py',
    '../_base_/det_runtime.py',
]

# A quarter of the width, for small pictures of few classes; anchors from 12 px.
model = dict(
    neck=dict(out_channels=64, norm_cfg=dict(type='BN')),
    bbox_head=dict(
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(octave_base_scale=2),
    ),
)
train_cfg = dict(max_epochs=12)
